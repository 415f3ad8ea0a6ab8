//! How a running `whalewatch run` is told to read its configuration again: SIGHUP, or a socket that
//! answers.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use whalewatch_engine::{Control, Registry, Reload};

use crate::commands;
use crate::say::say;

/// Where each running program has its socket, named after its process id.
const DIR: &str = "/run/whalewatch";
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// What it can say.
const RELOAD: &str = "reload";

/// Reads the configuration again, and has the system run it.
#[derive(Clone)]
pub(crate) struct Reloader {
    pub(crate) registry: Registry,
    pub(crate) path: PathBuf,
    pub(crate) controller: flume::Sender<Control>,
}

impl Reloader {
    /// The error says why the old configuration goes on.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let result = self.try_reload();
        match &result {
            Ok(()) => say(format_args!("reloaded: {}", self.path.display())),
            Err(error) => say(format_args!("{error}\nerror: the old configuration goes on")),
        }
        result
    }

    fn try_reload(&self) -> Result<(), String> {
        let plan = commands::parse(&self.registry, &self.path)?;
        let (reload, answer) = Reload::new(plan);
        let gone = |()| String::from("error: it is being stopped");
        self.controller.send(Control::Reload(reload)).map_err(|_| gone(()))?;
        let answer = answer.recv().map_err(|_| gone(()))?;
        answer.map_err(|error| format!("error: {error}"))
    }
}

/// The socket of this process, for as long as it runs.
pub(crate) struct Socket(PathBuf);

impl Socket {
    /// Opens it, and answers on a thread. Where there can be none, SIGHUP still does.
    pub(crate) fn open(reloader: Reloader) -> io::Result<Self> {
        fs::create_dir_all(DIR)?;
        fs::set_permissions(DIR, fs::Permissions::from_mode(0o700))?;
        let path = path_of(std::process::id());
        // One that had this process id before may have left its own.
        fs::remove_file(&path).ok();
        let listener = UnixListener::bind(&path)?;
        let socket = Self(path);
        thread::Builder::new().name("control".into()).spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that has gone has its reload all the same.
                answer(&client, &reloader).ok();
            }
        })?;
        Ok(socket)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

fn path_of(pid: u32) -> PathBuf {
    Path::new(DIR).join(format!("{pid}.sock"))
}

fn answer(mut client: &UnixStream, reloader: &Reloader) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut asked = String::new();
    BufReader::new(client).take(64).read_line(&mut asked)?;
    let said = match asked.trim_end() {
        RELOAD => reloader.reload().map_or_else(|error| error, |()| String::from("ok")),
        other => format!("error: {other:?} is nothing that can be asked for"),
    };
    client.write_all(said.as_bytes())
}

/// Why a running program could not be told.
pub(crate) enum Untold {
    /// There is none, or several, or it is not this user's.
    NotFound(String),
    /// It said no.
    Refused(String),
}

/// Has a running program read its configuration again; `pid` says which, where there are several.
pub(crate) fn ask_to_reload(pid: Option<u32>) -> Result<u32, Untold> {
    let (pid, mut stream) = find(pid).map_err(Untold::NotFound)?;
    let mut said = String::new();
    let asked = stream
        .write_all(format!("{RELOAD}\n").as_bytes())
        .and_then(|()| stream.read_to_string(&mut said));
    match (asked, said.as_str()) {
        (Ok(_), "ok") => Ok(pid),
        (Ok(_), "") => {
            Err(Untold::Refused(format!("error: process {pid} ended before it answered")))
        }
        (Ok(_), _) => Err(Untold::Refused(said)),
        (Err(error), _) => Err(Untold::Refused(format!("error: process {pid}: {error}"))),
    }
}

fn find(pid: Option<u32>) -> Result<(u32, UnixStream), String> {
    if let Some(pid) = pid {
        let stream = UnixStream::connect(path_of(pid));
        return stream.map(|stream| (pid, stream)).map_err(|error| {
            format!("process {pid} cannot be asked: {error}: is it a `whalewatch run`, and is this its user?")
        });
    }
    let entries = match fs::read_dir(DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(nobody()),
        Err(error) => {
            return Err(format!("{DIR} cannot be read: {error}: is this the user that runs it?"));
        }
    };
    let pid_of = |path: &Path| path.file_stem()?.to_str()?.parse::<u32>().ok();
    let mut found: Vec<(u32, UnixStream)> = entries
        .flatten()
        .filter_map(|entry| {
            let pid = pid_of(&entry.path())?;
            match UnixStream::connect(entry.path()) {
                Ok(stream) => Some((pid, stream)),
                Err(error) => {
                    // One that nobody listens at was left by a process that was killed.
                    if error.kind() == io::ErrorKind::ConnectionRefused {
                        fs::remove_file(entry.path()).ok();
                    }
                    None
                }
            }
        })
        .collect();
    match (found.pop(), found.len()) {
        (None, _) => Err(nobody()),
        (Some(one), 0) => Ok(one),
        (Some(one), _) => {
            found.push(one);
            let mut pids: Vec<u32> = found.iter().map(|(pid, _)| *pid).collect();
            pids.sort_unstable();
            let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
            Err(format!("several are running: say which with --pid: {}", pids.join(", ")))
        }
    }
}

fn nobody() -> String {
    String::from("no `whalewatch run` is running: start one, or name its process with --pid")
}
