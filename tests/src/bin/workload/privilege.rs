//! Changes a thread's privileges, and reaches into other processes and the kernel.
//!
//! All of it is bare system calls, because the C library changes the ids of all threads together.

#![expect(clippy::unnecessary_wraps, reason = "all steps of the tour have one shape")]
#![expect(clippy::needless_pass_by_value, reason = "each expected value is made for one call")]

use std::error::Error;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Map, Value, json};

use crate::Report;

pub(crate) fn run(arguments: &[String]) -> Report {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut done = Done::default();
    match arguments[..] {
        ["tour"] => tour(&mut done)?,
        // The kernel allows it only in a process with one thread.
        ["user-namespace"] => done.unshare(libc::CLONE_NEWUSER, &["user"]),
        ["enter", pid] => {
            for kind in ["uts", "net", "ipc"] {
                done.enter(File::open(format!("/proc/{pid}/ns/{kind}"))?, kind, 0);
            }
        }
        ["state"] => {}
        // Runs until its standard input is closed, or it is killed.
        ["wait"] => drop(std::io::stdin().read(&mut [0])?),
        _ => return Err("privilege tour | user-namespace | enter PID | state | wait".into()),
    }
    Ok(json!({"done": done.0, "state": state()}))
}

/// Makes a system call. Returns its result; a negative one is an error number.
#[expect(unsafe_code, reason = "these system calls have no safe wrappers")]
fn call(number: libc::c_long, arguments: &[u64]) -> i64 {
    let argument = |n: usize| arguments.get(n).copied().unwrap_or(0);
    // SAFETY: with none of the calls that are made here does the kernel write to this process's
    // memory.
    let result = unsafe {
        libc::syscall(number, argument(0), argument(1), argument(2), argument(3), argument(4))
    };
    if result >= 0 {
        return result;
    }
    -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// Returns this thread's credentials and namespaces from `/proc`, in the form of an event.
fn state() -> Value {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = |key: &str| -> Vec<&str> {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_default().split_whitespace().collect()
    };
    let mut state = Map::new();
    for (key, names) in
        [("Uid:", ["uid", "euid", "suid", "fsuid"]), ("Gid:", ["gid", "egid", "sgid", "fsgid"])]
    {
        for (name, id) in names.into_iter().zip(line(key)) {
            state.insert(name.to_owned(), id.parse::<u32>().ok().into());
        }
    }
    let set = |key: &str| u64::from_str_radix(line(key).first().unwrap_or(&""), 16).ok();
    let sets = json!({"effective": set("CapEff:"), "permitted": set("CapPrm:"),
        "inheritable": set("CapInh:"), "bounding": set("CapBnd:"), "ambient": set("CapAmb:")});
    state.insert("capabilities".to_owned(), sets);
    let namespaces = [
        "user",
        "mnt",
        "net",
        "uts",
        "ipc",
        "cgroup",
        "pid_for_children",
        "time",
        "time_for_children",
    ];
    let namespaces = namespaces.map(|name| (name.to_owned(), namespace("thread-self", name)));
    state.insert("namespaces".to_owned(), Value::Object(namespaces.into_iter().collect()));
    Value::Object(state)
}

/// Returns the inode number of a process's namespace, or null if it cannot be read.
fn namespace(process: &str, name: &str) -> Value {
    let link = fs::read_link(format!("/proc/{process}/ns/{name}")).unwrap_or_default();
    let number = link.to_str().and_then(|link| link.split_once(":[")?.1.strip_suffix(']'));
    number.and_then(|number| number.parse::<u64>().ok()).map_or(Value::Null, Value::from)
}

/// The steps in their order, with the state before and after each.
#[derive(Default)]
struct Done(Vec<Value>);

impl Done {
    /// Makes a call that changes this thread. `about` names the parts of the state that the call
    /// sets, and `expected` is what the event must contain.
    fn change(
        &mut self,
        kind: &str,
        (name, number): (&str, libc::c_long),
        arguments: &[u64],
        about: &[&str],
        expected: Value,
    ) -> i64 {
        let before = state();
        let result = call(number, arguments);
        self.0.push(json!({"kind": kind, "call": name, "result": result, "about": about,
            "before": before, "after": state(), "expected": expected}));
        result
    }

    /// Makes a call that does not change this thread.
    fn reach(
        &mut self,
        kind: &str,
        (name, number): (&str, libc::c_long),
        arguments: &[u64],
        expected: Value,
    ) -> i64 {
        let result = call(number, arguments);
        self.0.push(json!({"kind": kind, "call": name, "result": result, "expected": expected}));
        result
    }

    fn unshare(&mut self, flags: i32, names: &[&str]) {
        let about = about(names);
        let about: Vec<&str> = about.iter().map(String::as_str).collect();
        let expected = json!({"privilege": {"namespaces": names, "flags": flags}});
        let call = ("unshare", libc::SYS_unshare);
        self.change("privilege.unshare", call, &[flags as u64], &about, expected);
    }

    fn enter(&mut self, file: File, name: &str, flags: i32) {
        let about = about(&[name]);
        let about: Vec<&str> = about.iter().map(String::as_str).collect();
        let fd = file.as_raw_fd();
        let number = fs::metadata(format!("/proc/self/fd/{fd}")).map(|stat| inode(&stat)).ok();
        let expected = json!({"privilege": {"namespaces": [name], "flags": flags,
                                            "requested": {"namespace": number}}});
        let call = ("setns", libc::SYS_setns);
        self.change("privilege.setns", call, &[fd as u64, flags as u64], &about, expected);
    }

    fn ids(&mut self, name: &str, number: libc::c_long, ids: &[(&str, i64)]) -> i64 {
        let about: &[&str] = match ids.first() {
            Some((first, _)) if first.contains("uid") => &["uid", "euid", "suid", "fsuid"],
            Some(_) => &["gid", "egid", "sgid", "fsgid"],
            None => &[],
        };
        let requested: Map<_, _> =
            ids.iter().map(|(name, id)| ((*name).to_owned(), Value::from(*id))).collect();
        let requested = if ids.is_empty() { json!({"groups": 0}) } else { requested.into() };
        let arguments: Vec<u64> = ids.iter().map(|(_, id)| *id as u64 & 0xffff_ffff).collect();
        let expected = json!({"privilege": {"requested": requested}});
        self.change("privilege.setuid", (name, number), &arguments, about, expected)
    }

    fn capset(&mut self, effective: u64, permitted: u64) -> i64 {
        const VERSION: u32 = 0x2008_0522;
        let header = [VERSION, 0];
        let words = |shift: u32| [effective, permitted, 0].map(|set| (set >> shift) as u32);
        let sets = [words(0), words(32)];
        let arguments = [header.as_ptr() as u64, sets.as_ptr() as u64];
        let about =
            ["effective", "permitted", "inheritable"].map(|name| format!("capabilities.{name}"));
        let about: Vec<&str> = about.iter().map(String::as_str).collect();
        let requested = json!({"effective": effective, "permitted": permitted, "inheritable": 0});
        let expected = json!({"privilege": {"requested": {"capabilities": requested}}});
        self.change("privilege.capset", ("capset", libc::SYS_capset), &arguments, &about, expected)
    }
}

/// Returns the names of kinds of namespaces in a state.
fn about(names: &[&str]) -> Vec<String> {
    let places = names.iter().flat_map(|name| match *name {
        "pid" => vec!["pid_for_children"],
        "time" => vec!["time", "time_for_children"],
        other => vec![other],
    });
    places.map(|name| format!("namespaces.{name}")).collect()
}

fn inode(stat: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(stat)
}

/// Makes every call once. Each group has a separate thread, because no call can be undone.
fn tour(done: &mut Done) -> Result<(), Box<dyn Error>> {
    for part in [namespaces, users, groups, capabilities, clones, traces, modules, programs] {
        let outcome = thread::scope(|scope| {
            let thread = scope.spawn(|| part(done).map_err(|error| error.to_string()));
            thread.join().expect("it does not panic")
        });
        outcome?;
    }
    Ok(())
}

fn namespaces(done: &mut Done) -> Result<(), Box<dyn Error>> {
    let own = File::open("/proc/thread-self/ns/uts")?;
    let again = own.try_clone()?;
    done.unshare(libc::CLONE_NEWUTS, &["uts"]);
    done.enter(own, "uts", 0);
    done.unshare(libc::CLONE_NEWNET | libc::CLONE_NEWIPC, &["net", "ipc"]);
    done.enter(again, "uts", libc::CLONE_NEWUTS);
    done.unshare(libc::CLONE_NEWNS, &["mnt"]);
    done.unshare(libc::CLONE_NEWCGROUP, &["cgroup"]);
    done.unshare(libc::CLONE_NEWPID, &["pid"]);
    done.unshare(0x80, &["time"]);
    let null = File::open("/dev/null")?;
    let expected = json!({"privilege": {"flags": 0}});
    let arguments = [null.as_raw_fd() as u64, 0];
    done.change("privilege.setns", ("setns", libc::SYS_setns), &arguments, &[], expected);
    Ok(())
}

fn users(done: &mut Done) -> Result<(), Box<dyn Error>> {
    done.ids("setfsuid", libc::SYS_setfsuid, &[("fsuid", 1004)]);
    done.ids("setreuid", libc::SYS_setreuid, &[("uid", -1), ("euid", 1005)]);
    done.ids("setuid", libc::SYS_setuid, &[("uid", 0)]);
    done.ids("setresuid", libc::SYS_setresuid, &[("uid", 1000), ("euid", 1001), ("suid", 1002)]);
    done.ids("setuid", libc::SYS_setuid, &[("uid", 0)]);
    Ok(())
}

fn groups(done: &mut Done) -> Result<(), Box<dyn Error>> {
    done.ids("setgroups", libc::SYS_setgroups, &[]);
    done.ids("setfsgid", libc::SYS_setfsgid, &[("fsgid", 1004)]);
    done.ids("setregid", libc::SYS_setregid, &[("gid", -1), ("egid", 1005)]);
    done.ids("setgid", libc::SYS_setgid, &[("gid", 7)]);
    done.ids("setresgid", libc::SYS_setresgid, &[("gid", 1000), ("egid", -1), ("sgid", 1002)]);
    Ok(())
}

fn capabilities(done: &mut Done) -> Result<(), Box<dyn Error>> {
    const CHOWN: u64 = 1;
    const KILL: u64 = 1 << 5;
    const SYS_ADMIN: u64 = 1 << 21;
    done.capset(CHOWN, CHOWN | KILL);
    done.capset(KILL, CHOWN | KILL);
    done.capset(SYS_ADMIN | 1 << 40, SYS_ADMIN | 1 << 40);
    Ok(())
}

/// Starts a process in a new namespace.
#[expect(unsafe_code, reason = "the new process must do nothing but wait")]
fn clones(done: &mut Done) -> Result<(), Box<dyn Error>> {
    // The first version of `struct clone_args`: flags, and in the fifth word the exit signal.
    let flags = libc::CLONE_NEWUTS as u64;
    let given: [u64; 8] = [flags, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    let before = state();
    let child = call(libc::SYS_clone3, &[given.as_ptr() as u64, size_of_val(&given) as u64]);
    if child == 0 {
        // SAFETY: the calls have no arguments.
        unsafe {
            libc::pause();
        }
        // SAFETY: ends the process and touches no memory.
        unsafe { libc::_exit(0) }
    }
    let mut after = state();
    let mut expected = json!({"privilege": {"namespaces": ["uts"], "flags": flags}});
    if child > 0 {
        let process = child.to_string();
        after["namespaces"]["uts"] = namespace(&process, "uts");
        expected["privilege"]["target"] =
            json!({"vpid": child, "comm": "workload", "user": {"id": 0}});
        call(libc::SYS_kill, &[child as u64, libc::SIGKILL as u64]);
        call(libc::SYS_wait4, &[child as u64, 0, 0, 0]);
    }
    done.0.push(json!({"kind": "privilege.unshare", "call": "clone3", "result": child.min(0),
        "about": ["namespaces.uts"], "before": before, "after": after, "expected": expected}));
    Ok(())
}

fn traces(done: &mut Done) -> Result<(), Box<dyn Error>> {
    let mut other = Command::new(std::env::current_exe()?);
    other.args(["privilege", "wait"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut other = other.spawn()?;
    let ptrace = ("ptrace", libc::SYS_ptrace);
    let request = |request: u32, pid: u32| [u64::from(request), pid.into(), 0, 0];
    let expected =
        |name: &str, pid: u32| json!({"privilege": {"request": name, "target_pid": pid}});
    let pid = other.id();
    let mut known = expected("PTRACE_ATTACH", pid);
    let traced = json!({"vpid": pid, "comm": "workload", "user": {"id": 0}});
    known["privilege"]["target"] = traced.clone();
    done.reach("privilege.ptrace", ptrace, &request(libc::PTRACE_ATTACH, pid), known);
    call(libc::SYS_wait4, &[pid.into(), 0, libc::__WALL as u64, 0]);
    // It fails, because nothing is mapped at the address, but the target process is known.
    let mut known = expected("PTRACE_POKEDATA", pid);
    known["privilege"]["target"] = traced.clone();
    done.reach("privilege.ptrace", ptrace, &request(libc::PTRACE_POKEDATA, pid), known);
    call(libc::SYS_ptrace, &request(libc::PTRACE_DETACH, pid));
    let mut known = expected("PTRACE_SEIZE", pid);
    known["privilege"]["target"] = traced;
    done.reach("privilege.ptrace", ptrace, &request(libc::PTRACE_SEIZE, pid), known);
    let known = expected("PTRACE_SEIZE", std::process::id());
    done.reach("privilege.ptrace", ptrace, &request(libc::PTRACE_SEIZE, std::process::id()), known);
    let written = ("process_vm_writev", libc::SYS_process_vm_writev);
    let known = json!({"privilege": {"target_pid": pid}});
    done.reach("privilege.ptrace", written, &[pid.into(), 0, 0, 0, 0], known);
    other.kill()?;
    other.wait()?;
    Ok(())
}

fn modules(done: &mut Done) -> Result<(), Box<dyn Error>> {
    let kind = "privilege.module";
    let null = File::open("/dev/null")?;
    let options = c"".as_ptr() as u64;
    let expected = json!({"module": {"path": "/dev/null"}});
    let arguments = [null.as_raw_fd() as u64, options, 0];
    done.reach(kind, ("finit_module", libc::SYS_finit_module), &arguments, expected);
    let name = String::from("no_such_module\0");
    let expected = json!({"module": {"name": "no_such_module"}});
    let arguments = [name.as_ptr() as u64, libc::O_NONBLOCK as u64];
    done.reach(kind, ("delete_module", libc::SYS_delete_module), &arguments, expected);
    let arguments = [name.as_ptr() as u64, name.len() as u64, options];
    done.reach(kind, ("init_module", libc::SYS_init_module), &arguments, json!({}));
    Ok(())
}

fn programs(done: &mut Done) -> Result<(), Box<dyn Error>> {
    let (kind, bpf) = ("privilege.bpf", ("bpf", libc::SYS_bpf));
    let mut reach = |command: u64, attr: &[u8], expected: Value| {
        let arguments = [command, attr.as_ptr() as u64, attr.len() as u64];
        let fd = done.reach(kind, bpf, &arguments, json!({"bpf": expected}));
        if fd > 2 {
            call(libc::SYS_close, &[fd as u64]);
        }
    };
    let put = |attr: &mut [u8], at: usize, bytes: &[u8]| {
        attr[at..at + bytes.len()].copy_from_slice(bytes);
    };

    let mut map = [0; 44];
    for (at, number) in [(0, 2_u32), (4, 4), (8, 8), (12, 1)] {
        put(&mut map, at, &number.to_ne_bytes());
    }
    put(&mut map, 28, b"privilege_map");
    let expected = json!({"command": "BPF_MAP_CREATE", "map": {"type": "BPF_MAP_TYPE_ARRAY"},
                          "name": "privilege_map"});
    reach(0, &map, expected);

    // Returns 0.
    let program: [u64; 2] = [0x0000_00b7, 0x0000_0095];
    let mut load = [0; 72];
    put(&mut load, 0, &1_u32.to_ne_bytes());
    put(&mut load, 4, &2_u32.to_ne_bytes());
    put(&mut load, 8, &(program.as_ptr() as u64).to_ne_bytes());
    put(&mut load, 16, &(c"GPL".as_ptr() as u64).to_ne_bytes());
    put(&mut load, 48, b"privilege_prog");
    let expected = json!({"command": "BPF_PROG_LOAD", "name": "privilege_prog",
                          "program": {"type": "BPF_PROG_TYPE_SOCKET_FILTER"}});
    reach(5, &load, expected);

    let path = String::from("/sys/fs/bpf/no-such-thing\0");
    let got = (path.as_ptr() as u64).to_ne_bytes();
    let expected = json!({"command": "BPF_OBJ_GET", "path": path.trim_end_matches('\0')});
    reach(7, &[got, [0; 8]].concat(), expected);
    let name = String::from("sched_switch\0");
    let opened = (name.as_ptr() as u64).to_ne_bytes();
    let expected = json!({"command": "BPF_RAW_TRACEPOINT_OPEN", "tracepoint": "sched_switch"});
    reach(17, &[opened, u64::MAX.to_ne_bytes()].concat(), expected);
    let expected = json!({"command": "BPF_PROG_GET_FD_BY_ID", "id": 4_000_000_000_u32});
    reach(13, &[4_000_000_000_u32.to_ne_bytes(), [0; 4], [0; 4]].concat(), expected);
    let mut attach = [0; 16];
    put(&mut attach, 8, &6_u32.to_ne_bytes());
    put(&mut attach, 0, &[0xff; 8]);
    reach(8, &attach, json!({"command": "BPF_PROG_ATTACH", "attach_type": "BPF_CGROUP_DEVICE"}));
    Ok(())
}
