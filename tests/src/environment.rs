//! What `cargo xtask test` tells the tests. A test that misses something fails: a skipped test
//! proves nothing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Path of the program under test.
pub const PROGRAM: &str = "WHALEWATCH_E2E_PROGRAM";
/// Path of the socket of the dockerd that the tests share.
pub const DOCKER_SOCKET: &str = "WHALEWATCH_E2E_DOCKER_SOCKET";
/// Name of the image to start containers from.
pub const IMAGE: &str = "WHALEWATCH_E2E_IMAGE";
/// Path of a tar of that image's root, for the tests that start a dockerd of their own.
pub const IMAGE_TAR: &str = "WHALEWATCH_E2E_IMAGE_TAR";
/// Folder with the programs of the servers that tests talk to.
pub const SERVERS: &str = "WHALEWATCH_E2E_SERVERS";
/// Folder for whatever the tests write. It is cleared when all have run.
pub const SCRATCH: &str = "WHALEWATCH_E2E_SCRATCH";

/// The workspace's profile for development, as variables for cargo.
const PROFILE: [(&str, &str); 2] = [
    ("CARGO_PROFILE_DEV_DEBUG", "line-tables-only"),
    ("CARGO_PROFILE_DEV_BUILD_OVERRIDE_DEBUG", "false"),
];

/// Gives cargo, in a crate outside the workspace, the workspace's profile: with another one it could
/// not use dependencies that are already built. Variables that are set stay as they are.
pub fn use_profile_of_workspace(command: &mut Command) {
    for (name, value) in PROFILE {
        if env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
}

/// One of the variables above.
///
/// # Panics
/// When it is not set.
#[track_caller]
pub fn get(name: &str) -> String {
    match env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => {
            panic!("{name} is not set: run the end-to-end tests with `cargo xtask test --only e2e`")
        }
    }
}

/// Path of the program under test.
pub fn program() -> PathBuf {
    PathBuf::from(get(PROGRAM))
}

/// The shared dockerd.
pub fn docker_socket() -> PathBuf {
    PathBuf::from(get(DOCKER_SOCKET))
}

/// The image to start containers from.
pub fn image() -> String {
    get(IMAGE)
}

/// Path of a server's program: `nats-server`, `prometheus`.
///
/// # Panics
/// When it is not there.
#[track_caller]
pub fn server(name: &str) -> PathBuf {
    let path = Path::new(&get(SERVERS)).join(name);
    assert!(path.exists(), "{} is not there: `cargo xtask test --only packages`", path.display());
    path
}

/// A fresh folder for one test.
///
/// # Panics
/// When it cannot be made.
#[track_caller]
pub fn scratch(test: &str) -> PathBuf {
    let dir = Path::new(&get(SCRATCH)).join(test);
    // Names are unique among the tests, but one run may follow another in the same folder.
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap_or_else(|e| panic!("cannot clear {}: {e}", dir.display()));
    }
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("cannot make {}: {e}", dir.display()));
    dir
}
