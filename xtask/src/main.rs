//! The repository's build and check commands. `cargo xtask help` lists them.

mod accuracy;
mod bench;
mod docs;
mod documents;
mod e2e;
mod ebpf;
mod examples;
mod format;
mod kernels;
mod machine;
mod measure;
mod paths;
mod programs;
mod prose;
mod run;
mod schedule;
mod servers;
mod steps;
mod test;
mod tools;
mod workload;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  test      Run every check that CI runs, and set the machine up for it
  accuracy  Measure how often the right container is named, against an oracle
  bench     Measure what watching costs
  docs      Generate the reference pages from the program; --check only compares
  ebpf      Compile the kernel side into trackers/objects/; --check only compares
  kernels   Run the program on other kernels, in emulated machines
  prose     Check the wording and line width of comments, texts and documents
  workload  Run one of the small programs that `bench` watches

`cargo xtask COMMAND --help` explains a command.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let Some((command, rest)) = args.split_first() else { bail!("no command\n\n{HELP}") };
    match command.as_str() {
        "test" => test::main(rest),
        "accuracy" => accuracy::main(rest),
        "bench" => bench::main(rest),
        "docs" => docs::main(rest),
        "ebpf" => ebpf::main(rest),
        "kernels" => kernels::main(rest),
        "prose" => prose::main(rest),
        "workload" => workload::main(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("unknown command `{other}`\n\n{HELP}"),
    }
}
