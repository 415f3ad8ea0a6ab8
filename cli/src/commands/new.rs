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

/// Begin something of your own
#[derive(Args)]
pub(crate) struct New {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Handler(NewHandler),
}

/// Write a crate with a handler of your own: it builds, has tests, and brings a program that is
/// this one with the handler
#[derive(Args)]
struct NewHandler {
    /// What chains will call it: lower-case letters, digits and hyphens, and a letter first
    name: String,
    /// The folder to make [default: whalewatch-NAME, here]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Build on the sources of Whalewatch in this folder, not on what is published
    #[arg(long, value_name = "DIR")]
    whalewatch: Option<PathBuf>,
}

/// The crate's files: path, and text with `__places__` to be filled in.
const FILES: [(&str, &str); 7] = [
    ("Cargo.toml", include_str!("../../templates/handler/Cargo.toml.in")),
    (".gitignore", include_str!("../../templates/handler/gitignore.in")),
    ("README.md", include_str!("../../templates/handler/README.md.in")),
    ("__name__.toml", include_str!("../../templates/handler/chain.toml.in")),
    ("src/lib.rs", include_str!("../../templates/handler/src/lib.rs.in")),
    ("src/main.rs", include_str!("../../templates/handler/src/main.rs.in")),
    ("src/tests.rs", include_str!("../../templates/handler/src/tests.rs.in")),
];

/// The crates that it builds on: place in the texts, folder in the sources.
const CRATES: [(&str, &str); 3] =
    [("__whalewatch__", "cli"), ("__core__", "framework/core"), ("__kit__", "framework/kit")];

/// Names whose type would be taken for another one in the crate; as such, these are names of crates
/// of ours.
const TAKEN: &str = "arc batch bench box build-error chains clock clone container context copy core debug default \
    deserialize eq err exit-code extension field field-info filter handler handler-error handlers \
    hash-map json-schema kit never none nth null odd ok option partial-eq problem program ran \
    result runtime schema selected self send serialize setup some stdout string sync tests trackers \
    type value vec";

/// The longest name: crates.io takes 64 characters, and a prefix stands before it.
const LONGEST: usize = 40;

impl New {
    pub(super) fn run(&self, registry: &Registry) -> io::Result<ExitCode> {
        let What::Handler(handler) = &self.what;
        match handler.write(registry) {
            Ok(dir) => handler.tell(&dir).map(|()| ExitCode::SUCCESS),
            Err(error) => {
                say(format_args!("error: {error}"));
                Ok(ExitCode::from(BAD_USAGE))
            }
        }
    }
}

impl NewHandler {
    /// Writes the crate: its folder. The error says what to do.
    fn write(&self, registry: &Registry) -> Result<PathBuf, String> {
        check_name(&self.name, registry)?;
        let crate_name = self.crate_name();
        let dir = self.path.clone().unwrap_or_else(|| PathBuf::from(&crate_name));
        let shown = dir.display();
        if dir.symlink_metadata().is_ok() {
            return Err(format!("{shown} is there already: name another folder with --path DIR"));
        }
        let sources = self.whalewatch.as_deref().map(sources).transpose()?;
        let places = self.places(sources.as_deref());
        write_whole(&dir, |part| {
            for (file, text) in FILES {
                let file = part.join(fill(file, &places));
                file.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::write(file, fill(text, &places))?;
            }
            // What these sources were tested with, and what is there already where they have been
            // built.
            let lock = sources.as_ref().map(|sources| sources.join("Cargo.lock"));
            match lock.filter(|lock| lock.is_file()) {
                Some(lock) => fs::copy(lock, part.join("Cargo.lock")).map(drop),
                None => Ok(()),
            }
        })
        .map_err(|error| format!("{shown} cannot be written: {error}"))?;
        Ok(dir)
    }

    fn crate_name(&self) -> String {
        format!("whalewatch-{}", self.name)
    }

    /// What is filled in where.
    fn places(&self, sources: Option<&Path>) -> Vec<(&'static str, String)> {
        let crate_name = self.crate_name();
        let version =
            concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
        let mut places = vec![
            ("__name__", self.name.clone()),
            ("__Name__", camel_case(&self.name)),
            ("__field__", self.name.replace('-', "_")),
            ("__lib__", crate_name.replace('-', "_")),
            ("__crate__", crate_name),
            ("__rust__", env!("CARGO_PKG_RUST_VERSION").to_owned()),
            ("__repository__", env!("CARGO_PKG_REPOSITORY").to_owned()),
        ];
        places.extend(CRATES.map(|(place, dir)| {
            let path = sources.map(|sources| sources.join(dir));
            let path = path.map(|path| format!(", path = {}", quoted(&path.to_string_lossy())));
            (place, format!("version = \"{version}\"{}", path.unwrap_or_default()))
        }));
        places
    }

    /// Says what to do next.
    fn tell(&self, dir: &Path) -> io::Result<()> {
        let (name, crate_name, dir) = (&self.name, self.crate_name(), dir.display());
        writeln!(
            io::stdout(),
            "Wrote {dir}: the handler \"{name}\", its tests, and a program that has it. Next:

  cd {dir}
  cargo test --no-default-features    # the handler alone: under a minute
  cargo build                         # with its program: minutes, the first time
  target/debug/{crate_name} check {name}.toml
  sudo target/debug/{crate_name} trace --through {name}

Change src/lib.rs from there."
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
            "\"{name}\" cannot name a handler: use lower-case letters, digits and single hyphens, and a letter first"
        ));
    }
    if name.len() > LONGEST {
        return Err(format!(
            "\"{name}\" is too long for the name of a crate: use at most {LONGEST} characters"
        ));
    }
    if registry.describe_handlers().any(|(taken, ..)| taken == name) {
        return Err(format!("this program has a handler \"{name}\" already: choose another name"));
    }
    if TAKEN.split_whitespace().any(|taken| taken == name) {
        return Err(format!(
            "\"{name}\" would get in the way of another name in the crate: choose another, my-{name} for example"
        ));
    }
    Ok(())
}

/// The sources of Whalewatch in a folder, by their full path.
fn sources(dir: &Path) -> Result<PathBuf, String> {
    let wrong = |what: String| format!("{} holds no sources of Whalewatch: {what}", dir.display());
    let full = dir.canonicalize().map_err(|error| wrong(error.to_string()))?;
    for (_, part) in CRATES {
        let manifest = full.join(part).join("Cargo.toml");
        if !manifest.is_file() {
            return Err(wrong(format!("there is no {}", manifest.display())));
        }
    }
    Ok(full)
}

/// Makes a folder with all that `fill` writes, or none.
fn write_whole(dir: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let name = dir.file_name().ok_or_else(|| io::Error::other("that is no name of a folder"))?;
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

fn fill(text: &str, places: &[(&str, String)]) -> String {
    places.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
}

/// `my-geo` as a type's name: `MyGeo`.
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
