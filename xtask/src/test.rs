//! `cargo xtask test`: runs every check that CI runs, and sets the machine up for it.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::run;
use crate::schedule;
use crate::steps::{self, Context, STEPS, Setup, Step};

const HELP: &str = "\
cargo xtask test [--unit] [--only STEP[,STEP]…] [--profile NAME] [--serial] [--list]

  --unit     Only steps that need stable Rust and nothing else: no root, no network, no Docker
  --only     Only these steps and the steps they need
  --profile  Test the program of this cargo profile; `dist` is that of packages [default: dev]
  --serial   One step at a time, with its output as it comes
  --list     List the steps

Without options, everything: as root, on a machine with BTF. Missing packages, tools, mounts and a
dockerd are installed or started; mounts and the dockerd are removed again at the end. Steps that do
not disturb each other run side by side. Each step's output is in target/xtask/logs.
";

/// The command line.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    request: Request,
    /// The profile of the program under test.
    profile: String,
    serial: bool,
}

/// The steps to run, or something else to do.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    All,
    Unit,
    Only(Vec<String>),
    List,
    Help,
}

pub(crate) fn main(args: &[String]) -> Result<()> {
    let Options { request, profile, serial } = parse(args)?;
    ensure!(
        request != Request::Unit || profile == steps::DEV,
        "--unit tests no program: leave out --profile"
    );
    let steps: Vec<&'static Step> = match request {
        Request::Help => {
            print!("{HELP}");
            return Ok(());
        }
        Request::List => {
            list();
            return Ok(());
        }
        Request::All => STEPS.iter().collect(),
        Request::Unit => STEPS.iter().filter(|step| step.unit).collect(),
        Request::Only(names) => selected(&names)?,
    };
    perform(&steps, &profile, serial)
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options =
        Options { request: Request::All, profile: steps::DEV.to_owned(), serial: false };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        options.request = match arg.as_str() {
            "--unit" => Request::Unit,
            "--list" => Request::List,
            "--help" | "-h" => Request::Help,
            "--only" => {
                let names = args.next().context("--only needs the name of a step")?;
                Request::Only(names.split(',').map(str::to_owned).collect())
            }
            "--profile" => {
                args.next().context("--profile needs a name")?.clone_into(&mut options.profile);
                continue;
            }
            "--serial" => {
                options.serial = true;
                continue;
            }
            other => bail!("unknown option `{other}`\n\n{HELP}"),
        };
    }
    Ok(options)
}

fn list() {
    for step in STEPS {
        println!("{:10}  {}", step.name, step.about);
    }
}

/// The named steps and all steps that they need, in the usual order.
fn selected(names: &[String]) -> Result<Vec<&'static Step>> {
    let mut chosen: HashSet<&str> = HashSet::new();
    let mut pending: Vec<&str> = names.iter().map(String::as_str).collect();
    while let Some(name) = pending.pop() {
        let step = STEPS.iter().find(|step| step.name == name);
        let step = step.with_context(|| format!("no step `{name}`: see --list"))?;
        if chosen.insert(step.name) {
            pending.extend(step.after);
        }
    }
    Ok(STEPS.iter().filter(|step| chosen.contains(step.name)).collect())
}

fn perform(steps: &[&'static Step], profile: &str, serial: bool) -> Result<()> {
    let needs_root = steps.iter().any(|step| !step.unit);
    ensure!(
        !needs_root || rustix::process::geteuid().is_root(),
        "the full tests load programs into the kernel and start a dockerd: run them as root, or \
         run `cargo xtask test --unit`"
    );
    run::end_children_on_interrupt()?;
    let begin = Instant::now();
    let setup = if needs_root { Setup::of_machine(profile)? } else { Setup::of_units() };
    let (spans, result) =
        schedule::run_all(steps, serial, &|step, live| perform_one(step, &setup, live));
    // Removes mounts and daemons before the results are printed.
    let tests = setup.finish();
    println!("\n{}", schedule::table(&spans));
    result?;
    println!("all {} steps in {:.0} s", steps.len(), begin.elapsed().as_secs_f64());
    println!("total: {} passed, {} failed, {} skipped", tests.passed, tests.failed, tests.ignored);
    ensure!(tests.failed == 0, "tests failed");
    Ok(())
}

fn perform_one(step: &Step, setup: &Setup, live: bool) -> Result<()> {
    let context = Context::new(step.name, setup, live)?;
    if live {
        println!("== {}: {}", step.name, step.about);
    } else {
        println!("-- {} begins", step.name);
    }
    let begin = Instant::now();
    let result = (step.run)(&context);
    if !live {
        println!("== {}: {}", step.name, step.about);
    }
    context.output.release();
    println!("   {}: {:.1} s", step.name, begin.elapsed().as_secs_f64());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_read() {
        let only = |names: &[&str]| Request::Only(names.iter().map(|n| (*n).to_owned()).collect());
        for (line, request, profile, serial) in [
            ("", Request::All, "dev", false),
            ("--unit", Request::Unit, "dev", false),
            ("--only e2e,deny --serial", only(&["e2e", "deny"]), "dev", true),
            ("--profile dist --only e2e", only(&["e2e"]), "dist", false),
            ("--serial", Request::All, "dev", true),
            ("--list", Request::List, "dev", false),
        ] {
            let expected = Options { request, profile: profile.to_owned(), serial };
            assert_eq!(parse(&args(line)).unwrap(), expected, "{line}");
        }
        assert!(parse(&args("--profile")).is_err());
        assert!(parse(&args("--onyl e2e")).is_err());
    }

    #[test]
    fn selected_steps_come_with_the_steps_they_need() {
        let names: Vec<_> = selected(&args("e2e")).unwrap().iter().map(|step| step.name).collect();
        assert_eq!(names, ["packages", "program", "mounts", "harness", "e2e"]);
        assert!(selected(&args("e3e")).is_err());
    }

    #[test]
    fn steps_need_earlier_steps_only() {
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
    fn unit_steps_need_no_other_steps() {
        for step in STEPS.iter().filter(|step| step.unit) {
            assert!(step.after.is_empty(), "{}", step.name);
        }
    }
}
