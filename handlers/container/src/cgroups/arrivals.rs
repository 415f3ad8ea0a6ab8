//! What has come below the folders in which runtimes keep state, by inotify: a container that ends
//! within milliseconds has taken its folder with it when somebody looks there, but the kernel has
//! told that it was there.

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

/// How long it is remembered that a folder has come, once somebody has asked. What is told of its
/// cgroup is behind by less.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Most folders that are remembered; a host that makes more in ten seconds loses the oldest.
const MOST: usize = 4096;
/// Most folders that are watched.
const MOST_WATCHED: usize = 256;

/// Folders that have come lately.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Not there: only what is there when somebody looks is known.
    inotify: Option<OwnedFd>,
    watched: FxHashMap<i32, PathBuf>,
    came: VecDeque<(Instant, PathBuf)>,
    /// Whether anybody has asked. Until then nothing is forgotten: whoever will ask may take long
    /// to begin.
    asked: bool,
    wanted: Wanted,
}

/// Which folders are watched for what comes in them.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// These, and the folders that they lie in below `root`.
    pub(super) flat: Vec<PathBuf>,
    /// The folders in these,
    pub(super) deep: Vec<PathBuf>,
    /// but for those of this name.
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
            tracing::debug!(%error, "containers of runc and crun that end at once may be missed");
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

    /// Has a thread of its own read as soon as there is something: a folder that has just come is
    /// to be watched before what comes in it is gone, which takes a runtime some milliseconds. It
    /// ends when nobody else has them any more, or at the next look around.
    pub(super) fn keep_reading(&self, all: &Arc<Mutex<Option<Self>>>) {
        const LOOK_AROUND: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
        let Some(Ok(inotify)) = self.inotify.as_ref().map(OwnedFd::try_clone) else { return };
        let all = Arc::downgrade(all);
        let read = move || {
            loop {
                let mut ready = [PollFd::new(&inotify, PollFlags::IN)];
                if let Err(error) = poll(&mut ready, Some(&LOOK_AROUND))
                    && error != Errno::INTR
                {
                    tracing::debug!(%error, "a runtime's first container may be missed: no poll");
                    return;
                }
                let Some(all) = all.upgrade() else { return };
                let mut arrivals = all.lock().unwrap_or_else(PoisonError::into_inner);
                arrivals.iter_mut().for_each(Self::catch_up);
            }
        };
        if let Err(error) = thread::Builder::new().name("arrivals".into()).spawn(read) {
            tracing::debug!(%error, "a runtime's first container may be missed: no thread");
        }
    }

    /// Whether this folder has come lately, and may be gone again.
    pub(super) fn has(&mut self, folder: &Path) -> bool {
        if !self.asked {
            self.asked = true;
            let now = Instant::now();
            self.came.iter_mut().for_each(|(at, _)| *at = now);
        }
        self.catch_up();
        self.came.iter().any(|(_, came)| came == folder)
    }

    /// Reads what the kernel has to tell; it waits for nothing.
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
        if self.came.len() >= MOST {
            self.came.pop_front();
        }
        self.came.push_back((Instant::now(), folder));
    }

    /// Watches a folder, and takes in what came before it was watched.
    fn watch(&mut self, folder: PathBuf) {
        let Some(inotify) = self.inotify.as_ref().filter(|_| self.watched.len() < MOST_WATCHED)
        else {
            return;
        };
        let what = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        // It is not there yet, or no more.
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

    /// One runtime's folder.
    fn only(run: &Path, folder: &str) -> Wanted {
        Wanted { root: run.to_owned(), flat: vec![run.join(folder)], deep: vec![], but: "" }
    }

    #[test]
    fn what_is_gone_again_was_there_and_folders_that_come_later_are_watched() {
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
        assert!(!arrivals.has(&run.join("runc")), "it is watched, and nobody's");
        brief(&run.join("runc/web"));
        assert!(arrivals.has(&run.join("runc/web")));
        assert!(!arrivals.has(&run.join("runc/other")));
        // Two steps deeper, one of them there before it is watched.
        fs::create_dir_all(run.join("c/t/default/old")).unwrap();
        assert!(arrivals.has(&run.join("c/t/default/old")));
        brief(&run.join("c/t/default/new"));
        assert!(arrivals.has(&run.join("c/t/default/new")));
        // Files are no containers, and what has nothing to do with it is not watched.
        fs::write(run.join("runc/file"), "").unwrap();
        fs::create_dir_all(run.join("user/web")).unwrap();
        assert!(!arrivals.has(&run.join("runc/file")));
        assert!(!arrivals.has(&run.join("user/web")));
        fs::create_dir_all(run.join("c/t/moby/web")).unwrap();
        assert!(!arrivals.has(&run.join("c/t/moby/web")));
        // A folder that is made anew is watched anew.
        fs::remove_dir_all(run.join("runc")).unwrap();
        fs::create_dir(run.join("runc")).unwrap();
        assert!(!arrivals.has(&run.join("runc/again")));
        brief(&run.join("runc/again"));
        assert!(arrivals.has(&run.join("runc/again")));
    }

    #[test]
    fn a_runtime_s_first_container_is_seen_though_nobody_asks_while_it_is_there() {
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
    fn what_came_is_forgotten_in_time_but_not_before_anybody_has_asked() {
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
    fn no_more_is_remembered_than_the_bound() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().to_owned();
        let mut arrivals = Arrivals::new(only(&run, "runc"));
        for number in 0..=MOST {
            arrivals.arrive(run.join(format!("runc/{number}")));
        }
        assert_eq!(arrivals.came.len(), MOST);
        assert!(!arrivals.has(&run.join("runc/0")) && arrivals.has(&run.join("runc/1")));
    }
}
