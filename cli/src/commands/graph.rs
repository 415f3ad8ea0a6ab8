//! `whalewatch graph`

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use whalewatch_engine::Registry;
use whalewatch_engine::plan::Graph as Chains;

use crate::commands::load;

/// Print the chains of a configuration file as a graph
#[derive(Args)]
pub(crate) struct Graph {
    /// Configuration file
    file: PathBuf,
    /// Language of the graph
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// Mermaid, which GitHub and GitLab display as a picture
    #[default]
    Mermaid,
    /// Graphviz
    Dot,
}

impl Graph {
    pub(super) fn run(&self, registry: &Registry) -> io::Result<ExitCode> {
        let plan = match load(registry, &self.file) {
            Ok(plan) => plan,
            Err(code) => return Ok(code),
        };
        let text = match self.format {
            Format::Mermaid => mermaid(&plan.graph()),
            Format::Dot => dot(&plan.graph()),
        };
        io::stdout().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Replaces characters that have a meaning in the graph languages: names in a configuration may
/// contain any character.
fn quoted(label: &str) -> String {
    label.replace(['"', '\\', '\n', '|', '<', '>'], " ")
}

fn mermaid(graph: &Chains) -> String {
    let mut text = String::from("flowchart LR\n");
    for node in &graph.nodes {
        let (open, close) = if node.tracker { ("([", "])") } else { ("[", "]") };
        // Writing to a string cannot fail.
        writeln!(text, "    {}{open}\"{}\"{close}", node.id, quoted(&node.label)).ok();
    }
    for edge in &graph.edges {
        let arrow = if edge.label == "needs" { "-.->" } else { "-->" };
        writeln!(text, "    {} {arrow}|\"{}\"| {}", edge.from, quoted(&edge.label), edge.to).ok();
    }
    text
}

fn dot(graph: &Chains) -> String {
    let mut text = String::from("digraph chains {\n    rankdir = LR;\n");
    for node in &graph.nodes {
        let shape = if node.tracker { "ellipse" } else { "box" };
        writeln!(text, "    {} [label = \"{}\", shape = {shape}];", node.id, quoted(&node.label))
            .ok();
    }
    for edge in &graph.edges {
        let style = if edge.label == "needs" { ", style = dashed" } else { "" };
        let label = quoted(&edge.label);
        writeln!(text, "    {} -> {} [label = \"{label}\"{style}];", edge.from, edge.to).ok();
    }
    text.push_str("}\n");
    text
}
