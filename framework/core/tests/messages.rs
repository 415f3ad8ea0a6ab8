//! What the compiler says when the author of a handler forgets a piece. The texts in `ui/` are
//! those of the compiler that the workspace names as its `rust-version`; `TRYBUILD=overwrite cargo
//! test -p whalewatch-core --test messages` rewrites them.

use std::process::Command;

/// Whether the compiler is the one whose messages are pinned: others word theirs in other ways.
fn is_pinned() -> bool {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let done = Command::new(compiler).arg("--version").output().expect("there is a compiler");
    let version = String::from_utf8_lossy(&done.stdout).into_owned();
    version.starts_with(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), "."))
}

#[test]
fn compiler_names_the_missing_piece_and_the_fix() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/complete.rs");
    if is_pinned() {
        cases.compile_fail("tests/ui/*_*.rs");
    }
}
