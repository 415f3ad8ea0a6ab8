//! `cargo xtask test`: everything that CI checks, with all of its own set-up.

use std::collections::HashSet;
use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::steps::{Context, STEPS, Step};
use crate::{paths, run};

const HELP: &str = "\
cargo xtask test [--unit] [--only STEP[,STEP]…] [--list]

  --unit   Only what needs stable Rust and nothing else: no root, no network, no Docker
  --only   Only these steps, and what they stand on
  --list   The steps, in their order

Without options, everything: as root, on a machine with BTF. What is missing (packages, tools, mounts, a
dockerd) is installed or started; what was started or mounted is taken down again at the end.
";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Unit,
    Only(Vec<String>),
    List,
    Help,
}

pub(crate) fn main(args: &[String]) -> Result<()> {
    match parse(args)? {
        Wanted::Help => print!("{HELP}"),
        Wanted::List => list(),
        Wanted::All => perform(&STEPS.iter().collect::<Vec<_>>())?,
        Wanted::Unit => perform(&STEPS.iter().filter(|step| step.unit).collect::<Vec<_>>())?,
        Wanted::Only(names) => perform(&selected(&names)?)?,
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<Wanted> {
    let mut wanted = Wanted::All;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        wanted = match arg.as_str() {
            "--unit" => Wanted::Unit,
            "--list" => Wanted::List,
            "--help" | "-h" => Wanted::Help,
            "--only" => {
                let names = args.next().context("--only needs the name of a step")?;
                Wanted::Only(names.split(',').map(str::to_owned).collect())
            }
            other => bail!("no option `{other}`\n\n{HELP}"),
        };
    }
    Ok(wanted)
}

fn list() {
    for step in STEPS {
        println!("{:10}  {}", step.name, step.about);
    }
}

/// The named steps with all that they stand on, in the usual order.
fn selected(names: &[String]) -> Result<Vec<&'static Step>> {
    let mut wanted: HashSet<&str> = HashSet::new();
    let mut pending: Vec<&str> = names.iter().map(String::as_str).collect();
    while let Some(name) = pending.pop() {
        let step = STEPS.iter().find(|step| step.name == name);
        let step = step.with_context(|| format!("no step `{name}`: --list shows them"))?;
        if wanted.insert(step.name) {
            pending.extend(step.after);
        }
    }
    Ok(STEPS.iter().filter(|step| wanted.contains(step.name)).collect())
}

fn perform(steps: &[&Step]) -> Result<()> {
    let needs_root = steps.iter().any(|step| !step.unit);
    ensure!(
        !needs_root || rustix::process::geteuid().is_root(),
        "the full tests load programs into the kernel and start a dockerd: run them as root, or \
         run `cargo xtask test --unit`"
    );
    run::end_children_on_interrupt()?;
    let begin = Instant::now();
    let mut context = if needs_root { Context::of_machine()? } else { Context::of_units() };
    let result = steps.iter().try_for_each(|step| perform_one(step, &mut context));
    // Takes down what was set up, before the last word is said.
    let tests = context.finish();
    result?;
    println!("all of {} steps in {:.0} s", steps.len(), begin.elapsed().as_secs_f64());
    println!("total: {} passed, {} failed, {} skipped", tests.passed, tests.failed, tests.ignored);
    ensure!(tests.failed == 0, "tests failed");
    Ok(())
}

fn perform_one(step: &Step, context: &mut Context) -> Result<()> {
    run::go_on()?;
    let log = paths::target().join("xtask/logs").join(step.name).with_extension("log");
    fs::create_dir_all(log.parent().context("a log has a folder")?)?;
    fs::write(&log, "")?;
    context.log = log;
    println!("== {}: {}", step.name, step.about);
    let begin = Instant::now();
    let result = (step.run)(context);
    println!("   {}: {:.1} s", step.name, begin.elapsed().as_secs_f64());
    result.with_context(|| format!("step `{}`", step.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_read() {
        for (line, expected) in [
            ("", Wanted::All),
            ("--unit", Wanted::Unit),
            ("--only e2e,deny", Wanted::Only(vec!["e2e".into(), "deny".into()])),
            ("--list", Wanted::List),
        ] {
            assert_eq!(parse(&args(line)).unwrap(), expected, "{line}");
        }
        assert!(parse(&args("--onyl e2e")).is_err());
    }

    #[test]
    fn a_selected_step_brings_what_it_stands_on_in_the_usual_order() {
        let names: Vec<_> = selected(&args("e2e")).unwrap().iter().map(|step| step.name).collect();
        assert_eq!(names, ["packages", "mounts", "release", "e2e"]);
        assert!(selected(&args("e3e")).is_err());
    }

    #[test]
    fn every_step_stands_on_earlier_ones_only() {
        for (index, step) in STEPS.iter().enumerate() {
            for name in step.after {
                assert!(
                    STEPS[..index].iter().any(|earlier| earlier.name == *name),
                    "{}",
                    step.name
                );
            }
        }
    }

    #[test]
    fn unit_steps_stand_on_nothing_that_needs_a_machine() {
        for step in STEPS.iter().filter(|step| step.unit) {
            assert!(step.after.is_empty(), "{}", step.name);
        }
    }
}
