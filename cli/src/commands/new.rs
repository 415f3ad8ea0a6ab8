//! `whalewatch new`

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use whalewatch_engine::Registry;

use crate::BAD_USAGE;
use crate::commands::quoted;
use crate::say::say;

/// Create a crate for a custom handler
#[derive(Args)]
pub(crate) struct New {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Handler(NewHandler),
}

/// Create a crate with a custom handler, its tests, and a whalewatch program that includes it
#[derive(Args)]
struct NewHandler {
    /// Name of the handler in chains: lower-case letters, digits and hyphens; starts with a letter
    name: String,
    /// Folder to create [default: ./whalewatch-NAME]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Build with the Whalewatch sources in this folder instead of the published crates
    #[arg(long, value_name = "DIR")]
    whalewatch: Option<PathBuf>,
}

/// The files of the crate: path, and text with `__placeholders__`.
const FILES: [(&str, &str); 7] = [
    ("Cargo.toml", include_str!("../../templates/handler/Cargo.toml.in")),
    (".gitignore", include_str!("../../templates/handler/gitignore.in")),
    ("README.md", include_str!("../../templates/handler/README.md.in")),
    ("__name__.toml", include_str!("../../templates/handler/chain.toml.in")),
    ("src/lib.rs", include_str!("../../templates/handler/src/lib.rs.in")),
    ("src/main.rs", include_str!("../../templates/handler/src/main.rs.in")),
    ("src/tests.rs", include_str!("../../templates/handler/src/tests.rs.in")),
];

/// The crate's dependencies: placeholder in the texts, and folder in the sources.
const CRATES: [(&str, &str); 4] = [
    ("__whalewatch__", "cli"),
    ("__core__", "framework/core"),
    ("__kit__", "framework/kit"),
    ("__testing__", "framework/testing"),
];

/// Names that are refused: in camel case they would collide with a type that the crate's files use,
/// or `whalewatch-NAME` is a crate of this project.
const TAKEN: &str = "arc batch bench box build-error chain-context chains clock clone container \
    context copy core debug declaration default deserialize engine eq err exit-code extension \
    field field-info file filter handler handler-error handlers hash-map json-schema kit nats net \
    never none nth null odd ok option otlp partial-eq per-type problem program prometheus ran \
    result schema selected self send serialize setup some sqlite stdout string sync testing tests \
    trackers type value vec webhook";

/// Longest name, in bytes. crates.io accepts 64, and the crate's name has a prefix.
const MAX_NAME: usize = 40;

impl New {
    pub(super) fn run(&self, registry: &Registry) -> io::Result<ExitCode> {
        let What::Handler(handler) = &self.what;
        match handler.write(registry) {
            Ok(dir) => handler.print_next_steps(&dir).map(|()| ExitCode::SUCCESS),
            Err(error) => {
                say(format_args!("error: {error}"));
                Ok(ExitCode::from(BAD_USAGE))
            }
        }
    }
}

impl NewHandler {
    /// Writes the crate and returns its folder. The error says how to fix the problem.
    fn write(&self, registry: &Registry) -> Result<PathBuf, String> {
        check_name(&self.name, registry)?;
        let crate_name = self.crate_name();
        let dir = self.path.clone().unwrap_or_else(|| PathBuf::from(&crate_name));
        let shown = dir.display();
        if dir.symlink_metadata().is_ok() {
            return Err(format!("{shown} exists already: name another folder with --path DIR"));
        }
        let sources = self.whalewatch.as_deref().map(sources).transpose()?;
        let values = self.values(sources.as_deref());
        write_whole(&dir, |part| {
            for (file, text) in FILES {
                let file = part.join(fill(file, &values));
                file.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::write(file, fill(text, &values))?;
            }
            // The lock file has the versions that the sources are tested with. If the sources have
            // been built here, these versions are downloaded already.
            let lock = sources.as_ref().map(|sources| sources.join("Cargo.lock"));
            match lock.filter(|lock| lock.is_file()) {
                Some(lock) => fs::copy(lock, part.join("Cargo.lock")).map(drop),
                None => Ok(()),
            }
        })
        .map_err(|error| format!("cannot write {shown}: {error}"))?;
        Ok(dir)
    }

    fn crate_name(&self) -> String {
        format!("whalewatch-{}", self.name)
    }

    /// Returns the value of each placeholder.
    fn values(&self, sources: Option<&Path>) -> Vec<(&'static str, String)> {
        let crate_name = self.crate_name();
        let version =
            concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
        let mut values = vec![
            ("__name__", self.name.clone()),
            ("__Name__", camel_case(&self.name)),
            ("__field__", self.name.replace('-', "_")),
            ("__lib__", crate_name.replace('-', "_")),
            ("__crate__", crate_name),
            ("__rust__", env!("CARGO_PKG_RUST_VERSION").to_owned()),
            ("__repository__", env!("CARGO_PKG_REPOSITORY").to_owned()),
        ];
        values.extend(CRATES.map(|(placeholder, dir)| {
            let path = sources.map(|sources| sources.join(dir));
            let path = path.map(|path| format!(", path = {}", quoted(&path.to_string_lossy())));
            (placeholder, format!("version = \"{version}\"{}", path.unwrap_or_default()))
        }));
        values
    }

    fn print_next_steps(&self, dir: &Path) -> io::Result<()> {
        let (name, crate_name, dir) = (&self.name, self.crate_name(), dir.display());
        writeln!(
            io::stdout(),
            "Created {dir} with the handler \"{name}\", its tests, and a program that includes it.
Next steps:

  cd {dir}
  cargo test --no-default-features    # the handler alone: under a minute
  cargo build                         # the whole program: minutes, the first time
  target/debug/{crate_name} check {name}.toml
  sudo target/debug/{crate_name} trace --through {name}

Then edit src/lib.rs."
        )
    }
}

fn check_name(name: &str, registry: &Registry) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(plain)
        && !name.ends_with('-')
        && !name.contains("--");
    if !good {
        return Err(format!(
            "\"{name}\" is not a valid handler name: use lower-case letters, digits and single \
             hyphens, starting with a letter"
        ));
    }
    if name.len() > MAX_NAME {
        return Err(format!(
            "\"{name}\" is too long for the name of a crate: use at most {MAX_NAME} characters"
        ));
    }
    if registry.describe_handlers().any(|(taken, ..)| taken == name) {
        return Err(format!("handler \"{name}\" exists already: choose another name"));
    }
    if TAKEN.split_whitespace().any(|taken| taken == name) {
        return Err(format!(
            "\"{name}\" would collide with another name in the crate: choose another, for example \
             my-{name}"
        ));
    }
    Ok(())
}

/// Returns the absolute path of a folder, after a check that it has the sources of Whalewatch.
fn sources(dir: &Path) -> Result<PathBuf, String> {
    let wrong = |why: String| {
        format!("{} does not contain the sources of Whalewatch: {why}", dir.display())
    };
    let full = dir.canonicalize().map_err(|error| wrong(error.to_string()))?;
    for (_, part) in CRATES {
        let manifest = full.join(part).join("Cargo.toml");
        if !manifest.is_file() {
            return Err(wrong(format!("there is no {}", manifest.display())));
        }
    }
    Ok(full)
}

/// Creates a folder with the files that `fill` writes. If anything fails, there is no folder.
fn write_whole(dir: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let name = dir.file_name().ok_or_else(|| io::Error::other("not the name of a folder"))?;
    let parent = dir.parent().unwrap_or(Path::new(""));
    if !parent.as_os_str().is_empty() {
        fs::create_dir_all(parent)?;
    }
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let part = parent.join(hidden);
    fs::create_dir(&part)?;
    let done = fill(&part).and_then(|()| fs::rename(&part, dir));
    if done.is_err() {
        fs::remove_dir_all(&part).ok();
    }
    done
}

/// Replaces the placeholders by their values.
fn fill(text: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// Converts `my-geo` to the type name `MyGeo`.
fn camel_case(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase())
            .into_iter()
            .chain(letters)
            .collect::<String>()
    };
    name.split('-').map(word).collect()
}

#[cfg(test)]
#[path = "new/tests.rs"]
mod tests;
