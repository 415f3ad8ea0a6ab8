//! The records as they were read last, and reports of what has changed. Everything here reads
//! files, so it runs on a blocking thread.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use whalewatch_core::{Container, Namespaces, Status};

use super::details::{self, Details, State};
use super::records::{self, Record};
use super::roots;
use super::watch::{Stir, Watcher, is_records_folder};
use crate::proc::{Proc, ProcEntry};
use crate::protocol::Report;
use crate::runtimes::Reporter;

/// Bound on the folders of records.
const MAX_FOLDERS: usize = 4096;
/// Bound on the containers of all folders. Each may take two of the user's inotify watches.
const MAX_KNOWN: usize = 16_384;
/// Bound on the first processes whose end is watched. Each takes a file descriptor. The next
/// listing shows the end of the others.
const MAX_ENDS: usize = 256;

/// The records as they were read last.
pub(super) struct Store {
    /// Where to look; `None`: in the usual folders.
    endpoint: Option<PathBuf>,
    watcher: Option<Watcher>,
    host: Namespaces,
    report: Reporter,
    folders: BTreeMap<PathBuf, Folder>,
    known: FxHashMap<Arc<str>, Known>,
    watched: FxHashMap<i32, Watched>,
    /// The first processes whose end is watched.
    ends: FxHashSet<(Arc<str>, u32)>,
}

/// A folder like `overlay-containers`.
#[derive(Default)]
struct Folder {
    stamps: [Option<Stamp>; 2],
    /// Whether it was read once. Containers that appear later are new.
    read: bool,
}

/// The version of a file, which is always replaced as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    written: (i64, i64),
}

struct Known {
    record: Record,
    folder: PathBuf,
    /// The watch descriptors of the container's folders.
    watches: [Option<i32>; 2],
}

impl Known {
    fn userdata(&self) -> PathBuf {
        self.folder.join(&*self.record.id).join("userdata")
    }
}

enum Watched {
    Root,
    Folder(PathBuf),
    Container(Arc<str>),
}

/// The outcome of a job.
#[derive(Default)]
pub(super) struct Outcome {
    /// Whether something was incomplete, so that another look soon is worthwhile.
    pub(super) again: bool,
    /// The wanted containers that are known.
    pub(super) found: Vec<Arc<str>>,
    /// The wanted containers that are not.
    pub(super) missing: Vec<Arc<str>>,
    /// The first processes to wait for.
    pub(super) ends: Vec<(Arc<str>, u32, OwnedFd)>,
}

impl Store {
    pub(super) fn new(
        endpoint: Option<PathBuf>,
        watcher: Option<Watcher>,
        report: Reporter,
    ) -> Self {
        Self {
            endpoint,
            watcher,
            host: Proc::default().host(),
            report,
            folders: BTreeMap::new(),
            known: FxHashMap::default(),
            watched: FxHashMap::default(),
            ends: FxHashSet::default(),
        }
    }

    /// Whether there is no folder with records.
    pub(super) fn is_absent(&self) -> bool {
        self.folders.is_empty()
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.known.contains_key(id)
    }

    /// Looks for folders of records and reads what has changed.
    pub(super) fn look_everywhere(&mut self, outcome: &mut Outcome) {
        let roots = match &self.endpoint {
            Some(root) => vec![root.clone()],
            None => roots::usual(),
        };
        for root in roots {
            self.look_into(&root, outcome);
        }
    }

    fn look_into(&mut self, root: &Path, outcome: &mut Outcome) {
        let Ok(entries) = fs::read_dir(root) else { return };
        if let Some(Ok(number)) = self.watcher.as_ref().map(|w| w.folders_in(root)) {
            self.watched.insert(number, Watched::Root);
        }
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        for name in names.filter(|name| is_records_folder(name)) {
            let folder = root.join(name);
            if self.folders.contains_key(&folder) || self.folders.len() >= MAX_FOLDERS {
                continue;
            }
            // Watched before it is read, so that no change is missed in between.
            if let Some(Ok(number)) = self.watcher.as_ref().map(|w| w.files_in(&folder)) {
                self.watched.insert(number, Watched::Folder(folder.clone()));
            }
            self.folders.insert(folder.clone(), Folder::default());
            self.read(&folder, outcome);
        }
    }

    /// Reads what has changed in the known folders.
    pub(super) fn look(&mut self, outcome: &mut Outcome) {
        for folder in self.folders.keys().cloned().collect::<Vec<_>>() {
            self.read(&folder, outcome);
        }
        self.watch_the_unwatched(outcome);
    }

    /// Reads what has changed where something stirred.
    pub(super) fn stirred(&mut self, stirs: FxHashSet<Stir>, outcome: &mut Outcome) {
        let mut roots = false;
        let mut folders = FxHashSet::default();
        let mut containers = FxHashSet::default();
        for stir in stirs {
            match stir {
                Stir::Overflow => {
                    roots = true;
                    folders.extend(self.folders.keys().cloned());
                }
                Stir::Gone(number) => {
                    if let Some(Watched::Folder(folder)) = self.watched.remove(&number) {
                        folders.insert(folder);
                    }
                }
                Stir::Name(number, _) => match self.watched.get(&number) {
                    Some(Watched::Root) => roots = true,
                    Some(Watched::Folder(folder)) => {
                        folders.insert(folder.clone());
                    }
                    Some(Watched::Container(id)) => {
                        containers.insert(Arc::clone(id));
                    }
                    None => {}
                },
            }
        }
        if roots {
            self.look_everywhere(outcome);
        }
        for folder in folders {
            self.read(&folder, outcome);
        }
        for id in containers {
            self.examine(&id, outcome);
        }
        self.watch_the_unwatched(outcome);
    }

    /// Reports a container as it is now, if it is known.
    pub(super) fn inspect(&mut self, id: &Arc<str>, outcome: &mut Outcome) {
        if let Some((container, state)) = self.details(id) {
            self.report_details(container, &state, true, outcome);
        }
    }

    /// Reports all containers that run, or may.
    pub(super) fn list(&mut self, processes: bool, outcome: &mut Outcome) {
        let mut there = Vec::new();
        for id in self.known.keys().cloned().collect::<Vec<_>>() {
            let Some((container, state)) = self.details(&id) else { continue };
            // One that has ended is left out: nobody needs its name any more.
            if !matches!(state, State::Ended) {
                there.push(id.to_string());
            }
            if matches!(state, State::Created | State::Running(_)) {
                self.report_details(container, &state, processes, outcome);
            }
        }
        (self.report)(Report::Refreshed { running: there });
    }

    /// Reports that a first process has ended.
    pub(super) fn ended(&mut self, id: &Arc<str>, pid: u32) {
        self.ends.remove(&(Arc::clone(id), pid));
        if self.knows(id) {
            (self.report)(Report::Status { id: id.to_string(), status: Status::Exited });
        }
    }

    fn read(&mut self, folder: &Path, outcome: &mut Outcome) {
        let Some(state) = self.folders.get_mut(folder) else { return };
        if !folder.is_dir() {
            self.folders.remove(folder);
            self.take(folder, Vec::new(), false);
            return;
        }
        let new = state.read;
        let stamps = records::FILES.map(|file| stamp(&folder.join(file)));
        if new && stamps == state.stamps {
            return;
        }
        let mut found = Vec::new();
        for file in records::FILES {
            let path = folder.join(file);
            let text = match roots::read(&path, records::MAX_BYTES) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "cannot read records");
                    return;
                }
            };
            match records::parse(&text) {
                Ok(records) => found.extend(records),
                Err(error) => {
                    // Podman replaces the file as a whole. Another writer may not be done yet.
                    let path = path.display();
                    tracing::debug!(%path, %error, "no list of records, or not yet");
                    outcome.again = true;
                    return;
                }
            }
        }
        state.stamps = stamps;
        state.read = true;
        self.take(folder, found, new);
        self.watch_the_unwatched(outcome);
    }

    /// Takes in all records of a folder. If `new`, containers that were not known have just been
    /// made.
    fn take(&mut self, folder: &Path, found: Vec<Record>, new: bool) {
        let there: FxHashSet<Arc<str>> = found.iter().map(|r| Arc::clone(&r.id)).collect();
        let gone = |known: &Known| known.folder == folder && !there.contains(&known.record.id);
        let ids = self.known.iter().filter(|(_, k)| gone(k)).map(|(id, _)| Arc::clone(id));
        for id in ids.collect::<Vec<_>>() {
            self.remove(&id);
        }
        for record in found {
            let full = self.known.len() >= MAX_KNOWN;
            match self.known.get_mut(&record.id) {
                // It is another folder's: no user takes a container from the system or another
                // user.
                Some(known) if known.folder != folder => {}
                Some(known) if known.record == record => {}
                Some(known) => {
                    let name = record.name.to_string();
                    (self.report)(if known.record.name == record.name {
                        Report::Container(Box::new(record.container()))
                    } else {
                        Report::Renamed { id: record.id.to_string(), name }
                    });
                    known.record = record;
                }
                None if full => {}
                None => {
                    if new {
                        let container = Container { status: Status::Created, ..record.container() };
                        (self.report)(Report::Container(Box::new(container)));
                    }
                    let id = Arc::clone(&record.id);
                    let known = Known { record, folder: folder.to_owned(), watches: [None; 2] };
                    self.known.insert(id, known);
                }
            }
        }
    }

    fn remove(&mut self, id: &Arc<str>) {
        let Some(known) = self.known.remove(id) else { return };
        for number in known.watches.into_iter().flatten() {
            self.watched.remove(&number);
            self.watcher.as_ref().inspect(|watcher| watcher.drop(number));
        }
        (self.report)(Report::Removed { id: id.to_string() });
    }

    /// Watches the containers' own folders, which are made just after their records.
    fn watch_the_unwatched(&mut self, outcome: &mut Outcome) {
        if self.watcher.is_none() {
            return;
        }
        let unwatched = self.known.iter().filter(|(_, known)| known.watches[0].is_none());
        for id in unwatched.map(|(id, _)| Arc::clone(id)).collect::<Vec<_>>() {
            let userdata = self.known.get(&id).map(Known::userdata);
            if userdata.is_some_and(|userdata| self.watch(&id, 0, &userdata)) {
                self.examine(&id, outcome);
            } else {
                outcome.again = true;
            }
        }
    }

    /// Watches one of a container's folders; returns whether that works.
    fn watch(&mut self, id: &Arc<str>, which: usize, folder: &Path) -> bool {
        let Some(Ok(number)) = self.watcher.as_ref().map(|w| w.files_in(folder)) else {
            return false;
        };
        if let Some(known) = self.known.get_mut(id) {
            known.watches[which] = Some(number);
        }
        self.watched.insert(number, Watched::Container(Arc::clone(id)));
        true
    }

    /// Reads a container's own files and reports them, unless they say nothing: it is being
    /// started.
    fn examine(&mut self, id: &Arc<str>, outcome: &mut Outcome) {
        let details = self.details(id).filter(|(_, state)| !matches!(state, State::Unknown));
        if let Some((container, state)) = details {
            self.report_details(container, &state, true, outcome);
        }
    }

    fn details(&mut self, id: &Arc<str>) -> Option<(Container, State)> {
        let userdata = self.known.get(id)?.userdata();
        let mut details = Details::of(id, &userdata, self.host);
        let run = details.run.take();
        if let Some(run) = run
            && self.watch(id, 1, &run)
        {
            // Its files may have changed before it was watched.
            details.state = details::state(id, &run, self.host);
        }
        let mut container = self.known.get(id)?.record.container();
        details.complete(&mut container);
        Some((container, details.state))
    }

    fn report_details(
        &mut self,
        container: Container,
        state: &State,
        processes: bool,
        outcome: &mut Outcome,
    ) {
        let id = Arc::clone(&container.id);
        (self.report)(Report::Container(Box::new(container)));
        let State::Running(first) = state else { return };
        if processes {
            (self.report)(Report::Processes { id: id.to_string(), processes: vec![*first] });
        }
        self.want_end(id, first, outcome);
    }

    /// Requests to watch for the end of a container without a cgroup: no removal will show it.
    fn want_end(&mut self, id: Arc<str>, first: &ProcEntry, outcome: &mut Outcome) {
        let key = (Arc::clone(&id), first.key.pid);
        if self.ends.len() >= MAX_ENDS
            || self.ends.contains(&key)
            || details::has_cgroup(first, &id)
        {
            return;
        }
        if let Some(end) = details::end_of(first) {
            self.ends.insert(key);
            outcome.ends.push((id, first.key.pid, end));
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = fs::symlink_metadata(path).ok()?;
    let written = (about.mtime(), about.mtime_nsec());
    Some(Stamp { inode: about.ino(), size: about.size(), written })
}
