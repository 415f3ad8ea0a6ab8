//! Build and check commands of the repository: `cargo xtask help` lists them.

mod accuracy;
mod bench;
mod docs;
mod documents;
mod ebpf;
mod examples;
mod kernels;
mod machine;
mod measure;
mod paths;
mod programs;
mod prose;
mod run;
mod servers;
mod steps;
mod test;
mod tools;
mod workload;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  test      Everything that CI checks, with all set-up (`cargo xtask test --help`)
  accuracy  How often the right container is named, against an oracle (`cargo xtask accuracy --help`)
  bench     What watching costs, measured against not watching (`cargo xtask bench --help`)
  docs      Generate the reference pages from the program; --check only compares
  ebpf      Compile the kernel side into trackers/objects/; --check only compares
  kernels   The program on other kernels, each in an emulated machine
  prose     Wording and width of lines in comments, texts and documents
  workload  Small programs to be watched, used by `bench`
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
        other => bail!("no command `{other}`\n\n{HELP}"),
    }
}
