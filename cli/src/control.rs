//! Reloading a running `whalewatch run`: by SIGHUP, or by a socket that reports the outcome.

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

/// Folder of the sockets; each is named after the process id of its program.
const DIR: &str = "/run/whalewatch";
/// Time limit for reading a request and for writing the answer.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);
/// The only request.
const RELOAD: &str = "reload";

/// Reads the configuration again and hands the new plan to the running system.
#[derive(Clone)]
pub(crate) struct Reloader {
    pub(crate) registry: Registry,
    pub(crate) path: PathBuf,
    pub(crate) controller: flume::Sender<Control>,
}

impl Reloader {
    /// Reloads, and reports the outcome on standard error. The error says why the old configuration
    /// stays in force.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let result = self.try_reload();
        match &result {
            Ok(()) => say(format_args!("reloaded: {}", self.path.display())),
            Err(error) => say(format_args!("{error}\n{OLD_STAYS}")),
        }
        result
    }

    fn try_reload(&self) -> Result<(), String> {
        let plan = commands::parse(&self.registry, &self.path)?;
        let (reload, answer) = Reload::new(plan);
        let stopping = || String::from("error: not reloaded, because the program is stopping");
        self.controller.send(Control::Reload(reload)).map_err(|_| stopping())?;
        let answer = answer.recv().map_err(|_| stopping())?;
        answer.map_err(|error| format!("error: {error}"))
    }
}

/// The last line that is printed when a reload fails.
pub(crate) const OLD_STAYS: &str = "error: the old configuration stays in force";

/// The control socket of this process. Dropping it removes the file.
pub(crate) struct Socket(PathBuf);

impl Socket {
    /// Opens the socket and starts a thread that answers requests. If this fails, SIGHUP still
    /// works.
    pub(crate) fn open(reloader: Reloader) -> io::Result<Self> {
        fs::create_dir_all(DIR)?;
        fs::set_permissions(DIR, fs::Permissions::from_mode(0o700))?;
        let path = path_of(std::process::id());
        // An earlier process with this id may have left its socket.
        fs::remove_file(&path).ok();
        let listener = UnixListener::bind(&path)?;
        let socket = Self(path);
        thread::Builder::new().name("control".into()).spawn(move || {
            for client in listener.incoming().flatten() {
                // The reload takes place even if the client does not wait for the answer.
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
    client.set_read_timeout(Some(SOCKET_TIMEOUT))?;
    client.set_write_timeout(Some(SOCKET_TIMEOUT))?;
    let mut request = String::new();
    BufReader::new(client).take(64).read_line(&mut request)?;
    let response = match request.trim_end() {
        RELOAD => reloader.reload().map_or_else(|error| error, |()| String::from("ok")),
        other => format!("error: unknown request {other:?}: expected \"{RELOAD}\""),
    };
    client.write_all(response.as_bytes())
}

/// Why a running program did not reload.
pub(crate) enum ReloadError {
    /// No program, or more than one, was found, or it belongs to another user.
    NotFound(String),
    /// The program refused, or ended before it answered.
    Refused(String),
}

/// Asks a running program to reload, and returns its process id. `pid` chooses one where several
/// are running.
pub(crate) fn request_reload(pid: Option<u32>) -> Result<u32, ReloadError> {
    let (pid, mut stream) = find(pid).map_err(ReloadError::NotFound)?;
    let mut response = String::new();
    let result = stream
        .write_all(format!("{RELOAD}\n").as_bytes())
        .and_then(|()| stream.read_to_string(&mut response));
    match (result, response.as_str()) {
        (Ok(_), "ok") => Ok(pid),
        (Ok(_), "") => {
            Err(ReloadError::Refused(format!("error: process {pid} ended without an answer")))
        }
        (Ok(_), _) => Err(ReloadError::Refused(response)),
        (Err(error), _) => Err(ReloadError::Refused(format!("error: process {pid}: {error}"))),
    }
}

fn find(pid: Option<u32>) -> Result<(u32, UnixStream), String> {
    if let Some(pid) = pid {
        let stream = UnixStream::connect(path_of(pid));
        return stream.map(|stream| (pid, stream)).map_err(|error| {
            format!(
                "cannot reach process {pid}: {error}: check that it is a `whalewatch run`, and \
                 that you are the user who started it"
            )
        });
    }
    let entries = match fs::read_dir(DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none_running()),
        Err(error) => {
            return Err(format!(
                "cannot read {DIR}: {error}: reload as the user who started `whalewatch run`"
            ));
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
                    // A killed process leaves a socket that nobody listens on.
                    if error.kind() == io::ErrorKind::ConnectionRefused {
                        fs::remove_file(entry.path()).ok();
                    }
                    None
                }
            }
        })
        .collect();
    match (found.pop(), found.len()) {
        (None, _) => Err(none_running()),
        (Some(one), 0) => Ok(one),
        (Some(one), _) => {
            found.push(one);
            let mut pids: Vec<u32> = found.iter().map(|(pid, _)| *pid).collect();
            pids.sort_unstable();
            let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
            Err(format!(
                "several `whalewatch run` are running: choose one with --pid: {}",
                pids.join(", ")
            ))
        }
    }
}

fn none_running() -> String {
    String::from("found no running `whalewatch run`: start one, or name its process with --pid")
}
