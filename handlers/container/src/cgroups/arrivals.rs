//! New state folders of containers, by inotify. A container that ends within milliseconds has taken
//! its folder with it by the time that anybody looks; the kernel's notification remains.

use std::collections::VecDeque;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// How long a new folder is remembered, counted from the first question at the earliest. Events of
/// its cgroup arrive sooner.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Bound on the remembered folders. A host that makes more in ten seconds loses the oldest.
const MAX_ARRIVALS: usize = 4096;
/// Bound on the watched folders.
const MAX_WATCHED: usize = 256;

/// Folders that appeared lately.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// `None` if inotify failed: then only folders that still exist are known.
    inotify: Option<OwnedFd>,
    watched: FxHashMap<i32, PathBuf>,
    came: VecDeque<(Instant, PathBuf)>,
    /// Whether anybody has asked. Until then nothing is forgotten: trackers may take long to open.
    asked: bool,
    wanted: Wanted,
}

/// Which folders are watched for new ones in them.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// These folders, and those above them up to `root`.
    pub(super) flat: Vec<PathBuf>,
    /// These folders, and each folder in them
    pub(super) deep: Vec<PathBuf>,
    /// except those of this name.
    pub(super) but: &'static str,
    pub(super) root: PathBuf,
}

impl Wanted {
    fn wants(&self, folder: &Path) -> bool {
        let leads_to = |end: &PathBuf| end.starts_with(folder) && folder.starts_with(&self.root);
        let in_deep = self.deep.iter().any(|deep| folder.parent() == Some(deep))
            && !folder.ends_with(self.but);
        in_deep || self.flat.iter().chain(&self.deep).any(leads_to)
    }
}

impl Arrivals {
    pub(super) fn new(wanted: Wanted) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let inotify = inotify.inspect_err(|error| {
            tracing::debug!(%error, "cannot watch state folders; brief containers may be missed");
        });
        let mut all = Self {
            inotify: inotify.ok(),
            watched: FxHashMap::default(),
            came: VecDeque::new(),
            asked: false,
            wanted,
        };
        all.watch(all.wanted.root.clone());
        all
    }

    /// Starts a thread that reads notifications at once: a new folder must be watched before the
    /// folders in it are gone again, which takes a runtime some milliseconds. The thread ends
    /// within ten seconds after everybody else has dropped `all`.
    pub(super) fn keep_reading(&self, all: &Arc<Mutex<Option<Self>>>) {
        const CHECK_EVERY: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
        let Some(Ok(inotify)) = self.inotify.as_ref().map(OwnedFd::try_clone) else { return };
        let all = Arc::downgrade(all);
        let read = move || {
            loop {
                let mut ready = [PollFd::new(&inotify, PollFlags::IN)];
                if let Err(error) = poll(&mut ready, Some(&CHECK_EVERY))
                    && error != Errno::INTR
                {
                    tracing::debug!(%error, "cannot poll inotify; brief containers may be missed");
                    return;
                }
                let Some(all) = all.upgrade() else { return };
                let mut arrivals = all.lock().unwrap_or_else(PoisonError::into_inner);
                arrivals.iter_mut().for_each(Self::catch_up);
            }
        };
        if let Err(error) = thread::Builder::new().name("arrivals".into()).spawn(read) {
            tracing::debug!(%error, "cannot start a thread; brief containers may be missed");
        }
    }

    /// Whether this folder appeared lately. It may be gone again.
    pub(super) fn has(&mut self, folder: &Path) -> bool {
        if !self.asked {
            self.asked = true;
            let now = Instant::now();
            self.came.iter_mut().for_each(|(at, _)| *at = now);
        }
        self.catch_up();
        self.came.iter().any(|(_, came)| came == folder)
    }

    /// Reads pending notifications. Does not wait.
    fn catch_up(&mut self) {
        for folder in self.read() {
            self.arrive(folder);
        }
        while self.asked && self.came.front().is_some_and(|(at, _)| at.elapsed() > REMEMBERED) {
            self.came.pop_front();
        }
    }

    fn arrive(&mut self, folder: PathBuf) {
        if self.wanted.wants(&folder) {
            self.watch(folder);
            return;
        }
        if self.came.len() >= MAX_ARRIVALS {
            self.came.pop_front();
        }
        self.came.push_back((Instant::now(), folder));
    }

    /// Watches a folder, and notes the folders that are in it already.
    fn watch(&mut self, folder: PathBuf) {
        let Some(inotify) = self.inotify.as_ref().filter(|_| self.watched.len() < MAX_WATCHED)
        else {
            return;
        };
        let what = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        // It does not exist: not yet, or not any more.
        let Ok(number) = inotify::add_watch(inotify, &folder, what) else { return };
        let there = fs::read_dir(&folder);
        self.watched.insert(number, folder);
        for entry in there.into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.arrive(entry.path());
            }
        }
    }

    fn read(&mut self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        let Some(inotify) = &self.inotify else { return folders };
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(inotify, &mut space);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(_) => return folders, // nothing more for now
            };
            if event.events().contains(ReadFlags::IGNORED) {
                self.watched.remove(&event.wd());
                continue;
            }
            let name = event.file_name().and_then(|name| name.to_str().ok());
            let Some(name) = name.filter(|_| event.events().contains(ReadFlags::ISDIR)) else {
                continue;
            };
            folders.extend(self.watched.get(&event.wd()).map(|folder| folder.join(name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Watches one runtime's folder.
    fn only(run: &Path, folder: &str) -> Wanted {
        Wanted { root: run.to_owned(), flat: vec![run.join(folder)], deep: vec![], but: "" }
    }

    #[test]
    fn gone_folder_is_remembered_and_a_later_one_watched() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("run");
        fs::create_dir(&run).unwrap();
        let wanted = Wanted {
            root: run.clone(),
            flat: vec![run.join("runc")],
            deep: vec![run.join("c/t")],
            but: "moby",
        };
        let mut arrivals = Arrivals::new(wanted);
        let brief = |folder: &Path| {
            fs::create_dir(folder).unwrap();
            fs::remove_dir(folder).unwrap();
        };
        fs::create_dir(run.join("runc")).unwrap();
        assert!(!arrivals.has(&run.join("runc")), "it is watched, and not a container's");
        brief(&run.join("runc/web"));
        assert!(arrivals.has(&run.join("runc/web")));
        assert!(!arrivals.has(&run.join("runc/other")));
        // Two steps deeper, one of them there before it is watched.
        fs::create_dir_all(run.join("c/t/default/old")).unwrap();
        assert!(arrivals.has(&run.join("c/t/default/old")));
        brief(&run.join("c/t/default/new"));
        assert!(arrivals.has(&run.join("c/t/default/new")));
        // Files are not containers, and unrelated folders are not watched.
        fs::write(run.join("runc/file"), "").unwrap();
        fs::create_dir_all(run.join("user/web")).unwrap();
        assert!(!arrivals.has(&run.join("runc/file")));
        assert!(!arrivals.has(&run.join("user/web")));
        fs::create_dir_all(run.join("c/t/moby/web")).unwrap();
        assert!(!arrivals.has(&run.join("c/t/moby/web")));
        // A folder that is made again is watched again.
        fs::remove_dir_all(run.join("runc")).unwrap();
        fs::create_dir(run.join("runc")).unwrap();
        assert!(!arrivals.has(&run.join("runc/again")));
        brief(&run.join("runc/again"));
        assert!(arrivals.has(&run.join("runc/again")));
    }

    #[test]
    fn first_container_of_a_runtime_is_seen_without_a_question() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().to_owned();
        let crun = run.join("crun");
        let all = Arc::new(Mutex::new(Some(Arrivals::new(only(&run, "crun")))));
        let with =
            |then: &dyn Fn(&mut Arrivals) -> bool| all.lock().unwrap().as_mut().is_some_and(then);
        with(&|arrivals| {
            arrivals.keep_reading(&all);
            true
        });
        fs::create_dir(&crun).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while !with(&|arrivals| arrivals.watched.values().any(|folder| *folder == crun)) {
            assert!(Instant::now() < until, "nobody watches it");
            thread::yield_now();
        }
        fs::create_dir(crun.join("web")).unwrap();
        fs::remove_dir(crun.join("web")).unwrap();
        assert!(with(&|arrivals| arrivals.has(&crun.join("web"))));
    }

    #[test]
    fn arrival_is_not_forgotten_before_the_first_question() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().to_owned();
        let mut arrivals = Arrivals::new(only(&run, "runc"));
        let web = run.join("runc/web");
        arrivals.arrive(web.clone());
        let age = |arrivals: &mut Arrivals| {
            let long_ago = Instant::now().checked_sub(2 * REMEMBERED).unwrap();
            arrivals.came.iter_mut().for_each(|(at, _)| *at = long_ago);
        };
        age(&mut arrivals);
        arrivals.catch_up();
        assert!(arrivals.has(&web), "it took long until somebody asked");
        age(&mut arrivals);
        assert!(!arrivals.has(&web));
    }

    #[test]
    fn arrivals_are_bounded() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().to_owned();
        let mut arrivals = Arrivals::new(only(&run, "runc"));
        for number in 0..=MAX_ARRIVALS {
            arrivals.arrive(run.join(format!("runc/{number}")));
        }
        assert_eq!(arrivals.came.len(), MAX_ARRIVALS);
        assert!(!arrivals.has(&run.join("runc/0")) && arrivals.has(&run.join("runc/1")));
    }
}
