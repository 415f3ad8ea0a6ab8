//! A helper thread that compresses rotated files and deletes the oldest. The chain never waits for
//! it.
//!
//! A wake-up does not name a file: the thread lists the folder each time. So no work queues up, and
//! a run finishes the work that an earlier run left.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::options::{Compress, FileOptions};
use crate::rotated::{self, Form};

/// Bytes to compress between two checks whether to stop.
const STEP: usize = 128 * 1024;

/// A handle on the thread. Dropping it stops the thread at once; the next run starts its unfinished
/// work again.
#[derive(Debug)]
pub(crate) struct Keeper {
    wake: Option<SyncSender<()>>,
    done: Receiver<()>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread, which lists the folder at once.
    pub(crate) fn start(handler: Arc<str>, options: &FileOptions) -> io::Result<Self> {
        let (wake, wakes) = sync_channel(1);
        let (done_sender, done) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let mut work = Work {
            handler,
            path: options.path.clone(),
            keep: options.keep as usize,
            compress: options.compress,
            stop: Arc::clone(&stop),
            failing: false,
        };
        let thread = thread::Builder::new().name("file-keeper".to_owned()).spawn(move || {
            work.tidy();
            while wakes.recv().is_ok() {
                work.tidy();
            }
            done_sender.send(()).ok();
        })?;
        Ok(Self { wake: Some(wake), done, stop, thread: Some(thread) })
    }

    /// Wakes the thread after a rotation.
    pub(crate) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // If the channel is full, the thread will list the folder once more anyway.
            wake.try_send(()).ok();
        }
    }

    /// Waits until all work is done, at most for `limit`. Returns whether it is. The thread cannot
    /// be woken after that.
    pub(crate) fn finish(&mut self, limit: Duration) -> bool {
        self.wake = None;
        !matches!(self.done.recv_timeout(limit), Err(RecvTimeoutError::Timeout))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.wake = None;
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct Work {
    handler: Arc<str>,
    path: PathBuf,
    keep: usize,
    compress: Compress,
    stop: Arc<AtomicBool>,
    /// Whether the last attempt failed, which is logged once.
    failing: bool,
}

impl Work {
    fn tidy(&mut self) {
        match self.try_tidy() {
            Ok(()) => self.failing = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(
                        handler = %self.handler, path = %self.path.display(), %error,
                        "cannot compress or delete rotated files: retrying at the next rotation",
                    );
                }
            }
        }
    }

    fn try_tidy(&self) -> io::Result<()> {
        let mut files: BTreeMap<(u64, PathBuf), Vec<Form>> = BTreeMap::new();
        for file in rotated::list(&self.path)? {
            files.entry((file.number, file.plain)).or_default().push(file.form);
        }
        let surplus = files.len().saturating_sub(self.keep);
        for (at, ((_, plain), forms)) in files.iter().enumerate() {
            let whole = forms.contains(&Form::Compressed);
            for form in forms {
                let needed = match form {
                    // A compressed file gets its name when it is complete, so the original is not
                    // needed.
                    Form::Plain => !whole,
                    Form::Compressed => true,
                    Form::Partial => false,
                };
                if !needed || at < surplus {
                    fs::remove_file(form.of(plain))?;
                }
            }
        }
        if self.compress == Compress::Zstd {
            for ((_, plain), forms) in files.iter().skip(surplus) {
                if forms.contains(&Form::Plain) && !forms.contains(&Form::Compressed) {
                    self.compress(plain)?;
                }
            }
        }
        Ok(())
    }

    fn compress(&self, plain: &Path) -> io::Result<()> {
        let partial = Form::Partial.of(plain);
        let result = self.compress_to(plain, &partial);
        if result.is_err() {
            // Frees the space, which matters most if the disk is full.
            fs::remove_file(&partial).ok();
            return result;
        }
        fs::rename(&partial, Form::Compressed.of(plain))?;
        File::open(rotated::folder(plain))?.sync_all()?;
        fs::remove_file(plain)
    }

    fn compress_to(&self, plain: &Path, partial: &Path) -> io::Result<()> {
        let mut from = File::open(plain)?;
        let to = File::create(partial)?;
        to.set_permissions(from.metadata()?.permissions())?;
        let mut encoder = zstd::Encoder::new(to, zstd::DEFAULT_COMPRESSION_LEVEL)?;
        encoder.include_checksum(true)?;
        let mut step = vec![0; STEP];
        loop {
            if self.stop.load(Relaxed) {
                return Err(ErrorKind::Interrupted.into());
            }
            match from.read(&mut step)? {
                0 => return encoder.finish()?.sync_all(),
                count => encoder.write_all(&step[..count])?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn kept(options: &FileOptions) -> Vec<String> {
        assert!(Keeper::start("tested".into(), options).unwrap().finish(LIMIT));
        let name = |file: rotated::Rotated| {
            file.form.of(&file.plain).file_name().unwrap().to_string_lossy().into()
        };
        rotated::list(&options.path).unwrap().into_iter().map(name).collect()
    }

    fn options(dir: &Path, compress: Compress, keep: u32) -> FileOptions {
        FileOptions { keep, compress, ..FileOptions::new(dir.join("a")) }
    }

    #[test]
    fn keeper_deletes_the_oldest_files() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path(), Compress::None, 2);
        let names = [(9, ""), (10, ".zst"), (11, ""), (12, ".zst")];
        for (number, suffix) in names {
            fs::write(dir.path().join(format!("a.{number:06}-20261124T122221Z{suffix}")), "")
                .unwrap();
        }
        fs::write(dir.path().join("a.000001-20261124T122221Z.mine"), "").unwrap();
        let want = ["a.000011-20261124T122221Z", "a.000012-20261124T122221Z.zst"];
        assert_eq!(kept(&options), want);
        assert!(dir.path().join("a.000001-20261124T122221Z.mine").exists(), "not a rotated file");
    }

    #[test]
    fn keeper_finishes_the_work_of_an_earlier_run() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path(), Compress::Zstd, 9);
        let plain = dir.path().join("a.000001-20261124T122221Z");
        let twice = dir.path().join("a.000002-20261124T122221Z");
        fs::write(&plain, "one\n").unwrap();
        fs::write(Form::Partial.of(&plain), "half").unwrap();
        // Killed between the last two steps.
        fs::write(&twice, "two\n").unwrap();
        fs::write(Form::Compressed.of(&twice), zstd::encode_all(&b"two\n"[..], 1).unwrap())
            .unwrap();
        let want = ["a.000001-20261124T122221Z.zst", "a.000002-20261124T122221Z.zst"];
        assert_eq!(kept(&options), want);
        let one = fs::read(Form::Compressed.of(&plain)).unwrap();
        assert_eq!(zstd::decode_all(&one[..]).unwrap(), b"one\n");
    }

    #[test]
    fn keeper_stops_at_once_and_leaves_no_partial_file() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path(), Compress::Zstd, 9);
        let plain = dir.path().join("a.000001-20261124T122221Z");
        // A sparse file, too large to be compressed before the keeper is dropped.
        File::create(&plain).unwrap().set_len(1 << 40).unwrap();
        drop(Keeper::start("tested".into(), &options).unwrap());
        let forms: Vec<Form> =
            rotated::list(&options.path).unwrap().iter().map(|rotated| rotated.form).collect();
        assert_eq!(forms, [Form::Plain]);
    }
}
