//! Processes that are hard to follow.

use std::fs::File;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;

use crate::Report;

pub(crate) fn run(arguments: &[String]) -> Report {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["thread-exec", program, ref arguments @ ..] => thread_exec(program, arguments),
        ["hold", mark] => hold(mark),
        _ => Err("processes thread-exec PROGRAM ARGUMENT… | hold MARK".into()),
    }
}

/// Execs a program in a thread that is not the first one.
fn thread_exec(program: &str, arguments: &[&str]) -> Report {
    let failed = thread::scope(|scope| {
        let exec = || Command::new(program).args(arguments).exec();
        scope.spawn(exec).join().expect("it does not panic")
    });
    Err(failed.into())
}

/// Opens a file and a connection to itself, prints `holds`, and keeps both until it is killed.
fn hold(mark: &str) -> Report {
    let _file = File::open("/etc/hostname").or_else(|_| File::open("/proc/self/stat"))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut out = TcpStream::connect(listener.local_addr()?)?;
    let (_in, _) = listener.accept()?;
    out.write_all(mark.as_bytes())?;
    println!("holds");
    loop {
        thread::park();
    }
}
