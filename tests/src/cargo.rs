//! Cargo as a child process.

use std::env;
use std::path::Path;
use std::process::Command;

/// The beginnings of the variables that cargo sets for the programs and tests that it runs.
const OF_PACKAGES: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

/// Returns cargo with arguments, to run in a folder.
pub fn cargo(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(dir).args(args);
    clear_package(&mut command);
    command
}

/// Removes the variables that describe the package of this program. Some build scripts (that of
/// `ring`) depend on them: cargo would rebuild such a crate, and every crate that depends on it,
/// whenever another program calls cargo.
pub fn clear_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if OF_PACKAGES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_package_of_the_caller_reaches_cargo() {
        // Cargo has set them for this test.
        assert!(env::var_os("CARGO_PKG_NAME").is_some());
        let command = cargo(Path::new("/"), &["build"]);
        let removed =
            |name: &str| command.get_envs().any(|(n, value)| n == name && value.is_none());
        for name in ["CARGO_PKG_NAME", "CARGO_PKG_VERSION", "CARGO_MANIFEST_DIR"] {
            assert!(removed(name), "{name}");
        }
        assert!(!removed("CARGO_HOME") && !removed("PATH"));
    }
}
