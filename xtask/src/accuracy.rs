//! `cargo xtask accuracy`: measures how often the right container is named, against an oracle.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::paths;
use crate::run::{Show, run};
use crate::steps::{self, Context, STEPS, Setup};

const HELP: &str = "\
cargo xtask accuracy [--long] [--case WORD] [--runtime WORD] [--profile NAME] [--write]

  --long     15 minutes of churn instead of 12 s, and more rounds of every other case
  --case     Only cases whose name contains WORD
  --runtime  In cases for several runtimes, only runtimes whose name contains WORD
  --profile  Measure the program of this cargo profile; `dist` is that of packages [default: dev]
  --write    Write the results into docs/accuracy.md; with --case or --runtime, only their lines

Needs root, BTF and an idle machine. Installs and starts what is missing, as `cargo xtask test`
does.
";

/// The page with the results.
const PAGE: &str = "docs/accuracy.md";
const BEGIN: &str = "<!-- results: begin, made by cargo xtask accuracy --write -->";
const END: &str = "<!-- results: end -->";
/// The steps that set the machine up for the harness.
const STEPS_BEFORE: [&str; 4] = ["packages", "mounts", "program", "harness"];

pub(crate) fn main(args: &[String]) -> Result<()> {
    let (mut write, mut profile, mut passed_on) = (false, steps::DEV, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--write" => write = true,
            "--long" => passed_on.push(arg.as_str()),
            "--case" | "--runtime" => {
                let word = args.next().with_context(|| format!("{arg} needs a word"))?;
                passed_on.extend([arg, word.as_str()]);
            }
            "--profile" => profile = args.next().context("--profile needs a name")?,
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(());
            }
            other => bail!("unknown option `{other}`\n\n{HELP}"),
        }
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "watching the kernel needs root: run this command as root"
    );
    let setup = Setup::of_machine(profile)?;
    for step in STEPS.iter().filter(|step| STEPS_BEFORE.contains(&step.name)) {
        (step.run)(&Context::new(step.name, &setup, true)?)?;
    }
    let results = measure(&Context::new("accuracy", &setup, true)?, &passed_on)?;
    let all = !passed_on.iter().any(|option| ["--case", "--runtime"].contains(option));
    if write { write_page(&results, all) } else { Ok(()) }
}

/// Runs the harness on a machine that is set up. Fails if any attribution is wrong or missing.
pub(crate) fn measure(context: &Context<'_>, options: &[&str]) -> Result<PathBuf> {
    let results = paths::target().join("xtask/accuracy.json");
    let mut command = Command::new(paths::target().join("debug/accuracy"));
    command.args(options).arg("--results").arg(&results);
    context.prepare(&mut command)?;
    run(&mut command, &context.output, Show::Always).context("the accuracy check failed")?;
    Ok(results)
}

/// Writes the tables: whole if `all`, else only the lines that have results.
fn write_page(results: &Path, all: bool) -> Result<()> {
    let page = paths::root().join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let (before, rest) = text.split_once(BEGIN).context("the page has no place for results")?;
    let (old, after) = rest.split_once(END).context("the place for results has no end")?;
    let results: Value = serde_json::from_str(&fs::read_to_string(results)?)?;
    let results = results.as_array().context("results are a list")?;
    let [mut lines, mut figures] = tables(results);
    if !all {
        let (old_lines, old_figures) =
            old.split_once("\n\n| case | runtime | what").unwrap_or_default();
        lines = merged(old_lines, &lines, 2);
        figures = merged(old_figures, &figures, 3);
    }
    fs::write(
        &page,
        format!("{before}{BEGIN}\n\n{LINES}{lines}\n{FIGURES}{figures}\n{END}{after}"),
    )?;
    Ok(())
}

/// Merges new lines into a table. A line's key is its first `key` columns, the first of which is
/// the case. A line with a new key comes after the last line of its case.
fn merged(old: &str, new: &str, key: usize) -> String {
    let key = |line: &str| line.split(" | ").take(key).map(str::to_owned).collect::<Vec<_>>();
    let body = old.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let mut lines: Vec<&str> = body.filter(|line| line.starts_with('|')).collect();
    for line in new.lines() {
        if let Some(known) = lines.iter_mut().find(|known| key(known) == key(line)) {
            *known = line;
            continue;
        }
        let case = key(line).into_iter().next();
        let last = lines.iter().rposition(|known| key(known).into_iter().next() == case);
        lines.insert(last.map_or(lines.len(), |at| at + 1), line);
    }
    lines.iter().flat_map(|line| [*line, "\n"]).collect()
}

/// The heads of the two tables.
const LINES: &str = "\
| case | runtime | processes | events | wrong | unknown | missing | right id \
| named at once | named later |
|---|---|---|---|---|---|---|---|---|---|
";
const FIGURES: &str = "\
| case | runtime | what | measured |
|---|---|---|---|
";

/// Returns the lines of both tables: attributions by case and runtime, and other measurements.
fn tables(results: &[Value]) -> [String; 2] {
    let (mut text, mut figures) = (String::new(), String::new());
    for result in results {
        let count = |key: &str| result[key].as_u64().unwrap_or(0);
        let word = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
        let (named, owed) = (count("name_at_once"), count("name_late") + count("name_never"));
        // Writing to text never fails.
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            word("case"),
            word("runtime"),
            count("processes"),
            count("events"),
            count("wrong"),
            count("unknown"),
            count("missing"),
            percent(count("id_right"), count("events")),
            percent(named, named + owed),
            count("name_late")
        );
        for figure in result["figures"].as_array().into_iter().flatten() {
            let value = figure["value"].as_f64().unwrap_or(0.0);
            let (name, unit) = (figure["name"].as_str(), figure["unit"].as_str());
            let (name, unit) = (name.unwrap_or_default(), unit.unwrap_or_default());
            let _infallible = writeln!(
                figures,
                "| {} | {} | {name} | {} |",
                word("case"),
                word("runtime"),
                // A figure without a unit is a count.
                if unit == "ms" { format!("{value:.1} ms") } else { format!("{value} {unit}") }
                    .trim()
            );
        }
        if let (Some(first), Some(last)) =
            (result["memory"]["first"].as_f64(), result["memory"]["last"].as_f64())
            && word("case") == "churn"
        {
            let mib = |kib: f64| kib / 1024.0;
            let _infallible = writeln!(
                figures,
                "| churn | {} | anonymous memory, mean at first and at last, most \
                 | {:.1} MiB, {:.1} MiB, {:.1} MiB |",
                word("runtime"),
                mib(first),
                mib(last),
                mib(result["memory"]["most"].as_f64().unwrap_or(0.0))
            );
        }
    }
    [text, figures]
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "none owed".to_owned();
    }
    if part == whole {
        return "100 %".to_owned();
    }
    // Rounded down: 100 % means all.
    let percent = (part as f64 / whole as f64 * 1e5).floor() / 1e3;
    format!("{percent:.3} %")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn percentages_are_never_rounded_up() {
        assert_eq!(percent(10, 10), "100 %");
        assert_eq!(percent(9_999_999, 10_000_000), "99.999 %");
        assert_eq!(percent(0, 0), "none owed");
    }

    #[test]
    fn cases_and_figures_have_a_line_each() {
        let result = json!({
            "case": "churn", "runtime": "docker", "processes": 2, "events": 6, "wrong": 0,
            "unknown": 0, "missing": 0, "id_right": 6, "name_at_once": 2, "name_late": 1,
            "name_never": 0, "figures": [{"name": "delay", "value": 1.25, "unit": "ms"}],
            "memory": {"first": 10240.0, "last": 10240.0, "most": 20480},
        });
        let text = tables(&[result]).concat();
        assert!(
            text.contains("| churn | docker | 2 | 6 | 0 | 0 | 0 | 100 % | 66.666 % | 1 |"),
            "{text}"
        );
        assert!(text.contains("| churn | docker | delay | 1.2 ms |"), "{text}");
        assert!(text.contains("10.0 MiB, 10.0 MiB, 20.0 MiB"), "{text}");
    }

    #[test]
    fn cases_that_did_not_run_keep_their_lines() {
        let old = format!("\n\n{LINES}| a | docker | 1 |\n| a | runc | 1 |\n| b | docker | 1 |\n");
        let new = "| a | crun | 2 |\n| b | docker | 2 |\n| c | docker | 2 |\n";
        assert_eq!(
            merged(&old, new, 2),
            "| a | docker | 1 |\n| a | runc | 1 |\n| a | crun | 2 |\n\
             | b | docker | 2 |\n| c | docker | 2 |\n"
        );
        let old = "| measured |\n|---|---|---|---|\n| a | docker | runs | 1 |\n";
        assert_eq!(
            merged(old, "| a | docker | other | 2 |\n", 3),
            "| a | docker | runs | 1 |\n| a | docker | other | 2 |\n"
        );
    }
}
