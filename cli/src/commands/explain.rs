//! `whalewatch explain`

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use whalewatch_engine::explained::{HandlerInfo, PlanInfo, TrackerInfo};
use whalewatch_engine::{Registry, WhenFull};

use crate::commands::load;

/// Explain a configuration file in words: what it attaches in the kernel, what each chain does, and
/// what it costs
#[derive(Args)]
pub(crate) struct Explain {
    /// Configuration file
    file: PathBuf,
}

impl Explain {
    pub(super) fn run(&self, registry: &Registry) -> io::Result<ExitCode> {
        let plan = match load(registry, &self.file) {
            Ok(plan) => plan,
            Err(code) => return Ok(code),
        };
        io::stdout().write_all(explain(&registry.describe_plan(&plan)).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Describes a plan. Writing to a string cannot fail, so the results are ignored.
fn explain(plan: &PlanInfo) -> String {
    let mut text = String::from("In the kernel:\n");
    for tracker in &plan.trackers {
        explain_tracker(&mut text, tracker);
    }
    text.push_str("\nIn the chains:\n");
    for chain in &plan.chains {
        let from: Vec<_> = chain.from.iter().map(|&t| plan.trackers[t].name.as_str()).collect();
        let events = if from.len() == 1 { "tracker" } else { "trackers" };
        writeln!(text, "  chain {}: events of the {events} {}", chain.name, from.join(", ")).ok();
        for (step, &handler) in (1..).zip(&chain.through) {
            explain_handler(&mut text, step, &plan.handlers[handler]);
        }
    }
    let threads = match plan.handlers.iter().filter(|handler| handler.blocking).count() {
        0 => String::from("one thread"),
        1 => String::from("one thread, plus one for a handler that may block"),
        count => format!("one thread, plus {count} for handlers that may block"),
    };
    writeln!(
        text,
        "\nThe chains run on {threads}.\n\
         If the kernel buffer of a tracker is full, events are lost and counted. The totals on\n\
         standard error and in `--stats-file` show how many."
    )
    .ok();
    text
}

fn explain_tracker(text: &mut String, tracker: &TrackerInfo) {
    writeln!(text, "  tracker {} ({}): {}", tracker.name, tracker.type_name, tracker.about).ok();
    if !tracker.attaches.is_empty() {
        writeln!(text, "      attaches to {}", tracker.attaches.join(", ")).ok();
    }
    writeln!(text, "      costs {}", tracker.cost).ok();
    settings(text, &tracker.set);
    if !tracker.needed_by.is_empty() {
        let needed_by = tracker.needed_by.join(", ");
        writeln!(text, "      feeds {needed_by} directly, whether or not a chain names it").ok();
    }
}

fn explain_handler(text: &mut String, step: u32, handler: &HandlerInfo) {
    let named = if handler.name == handler.type_name {
        handler.name.clone()
    } else {
        format!("{} ({})", handler.name, handler.type_name)
    };
    writeln!(text, "    {step}. {named}: {}", handler.about).ok();
    settings(text, &handler.set);
    if handler.shared {
        writeln!(text, "      one instance, shared by all chains that name it").ok();
    }
    let full = match handler.queue.when_full {
        WhenFull::Block => return,
        WhenFull::DropNewest => "new",
        WhenFull::DropOldest => "the oldest",
    };
    let queue = handler.queue.queue;
    writeln!(
        text,
        "      if its queue of {queue} batches is full, {full} batches are dropped and counted"
    )
    .ok();
}

fn settings(text: &mut String, set: &[(String, Value)]) {
    for (name, value) in set {
        writeln!(text, "      with {name} = {value}").ok();
    }
}

#[cfg(test)]
mod tests {
    use whalewatch_engine::config;

    #[test]
    fn explanation_covers_trackers_handlers_and_their_settings() {
        let registry = crate::Program::new().registry().clone();
        let plan = config::validate(
            &registry,
            "t",
            "
            [trackers.opens]
            type = 'files'
            scope = { containers = ['web*'] }
            [handlers.roots]
            type = 'filter'
            when = 'process.user.id == 0'
            when_full = 'drop_newest'
            [[chains]]
            name = 'watch'
            from = ['opens']
            through = ['container', 'roots', 'null']
            ",
        );
        let plan = plan.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let text = super::explain(&registry.describe_plan(&plan));
        for part in [
            "tracker opens (files): files that are opened",
            "attaches to sys_exit",
            "costs about 50 ns per system call",
            "with scope.containers = [\"web*\"]",
            "feeds container directly, whether or not a chain names it",
            "chain watch: events of the tracker opens",
            "1. container: ",
            "2. roots (filter): keeps the events",
            "when = \"process.user.id == 0\"",
            "if its queue of 64 batches is full, new batches are dropped and counted",
            "3. null: accepts and discards every event",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
    }
}
