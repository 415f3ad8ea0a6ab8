//! The set-up that `cargo xtask test` passes to the tests. A test that lacks something fails: a
//! skipped test proves nothing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Path of the program under test.
pub const PROGRAM: &str = "WHALEWATCH_E2E_PROGRAM";
/// Path of the socket of the dockerd that the tests share.
pub const DOCKER_SOCKET: &str = "WHALEWATCH_E2E_DOCKER_SOCKET";
/// Name of the image to start containers from.
pub const IMAGE: &str = "WHALEWATCH_E2E_IMAGE";
/// Path of a tar of that image's root, for tests that start their own dockerd.
pub const IMAGE_TAR: &str = "WHALEWATCH_E2E_IMAGE_TAR";
/// Folder with the programs of the tests' servers.
pub const SERVERS: &str = "WHALEWATCH_E2E_SERVERS";
/// Folder for everything that tests write. It is removed when all have run.
pub const SCRATCH: &str = "WHALEWATCH_E2E_SCRATCH";

/// Returns one of the variables above.
///
/// # Panics
/// If it is not set.
#[track_caller]
pub fn get(name: &str) -> String {
    match env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => {
            panic!("{name} is not set: run the end-to-end tests with `cargo xtask test --only e2e`")
        }
    }
}

/// Returns the path of the program under test.
pub fn program() -> PathBuf {
    PathBuf::from(get(PROGRAM))
}

/// Returns the socket of the dockerd that the tests share.
pub fn docker_socket() -> PathBuf {
    PathBuf::from(get(DOCKER_SOCKET))
}

/// Returns the image to start containers from.
pub fn image() -> String {
    get(IMAGE)
}

/// Returns the path of a server's program: `nats-server` or `prometheus`.
///
/// # Panics
/// If it does not exist.
#[track_caller]
pub fn server(name: &str) -> PathBuf {
    let path = Path::new(&get(SERVERS)).join(name);
    assert!(
        path.exists(),
        "{} does not exist: run `cargo xtask test --only packages`",
        path.display()
    );
    path
}

/// Makes an empty folder for one test. Names must be unique among the tests.
///
/// # Panics
/// If it cannot be made.
#[track_caller]
pub fn scratch(test: &str) -> PathBuf {
    let dir = Path::new(&get(SCRATCH)).join(test);
    // An earlier run may have left it.
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap_or_else(|e| panic!("cannot clear {}: {e}", dir.display()));
    }
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("cannot make {}: {e}", dir.display()));
    dir
}
