//! Reads `[[tests]]`: the tests that a configuration has for its chains.

use toml::Spanned;
use toml::de::DeValue;

use super::options::{OptionTable, Position, read as read_options};
use super::parts::{ChainPart, Reader};
use crate::config::names::suggest;
use crate::plan::PlannedTest;

/// Reads the tests. Adds their mistakes to those of the reader.
pub(super) fn read(
    reader: &mut Reader<'_>,
    value: &Spanned<DeValue<'_>>,
    chains: &[ChainPart],
) -> Vec<PlannedTest> {
    let Some(list) = value.get_ref().as_array() else {
        reader.report_at(value.span(), "tests must be a list of tables: write [[tests]]");
        return Vec::new();
    };
    let mut tests: Vec<PlannedTest> = Vec::new();
    for (number, value) in (1..).zip(list) {
        let Some(table) = value.get_ref().as_table() else {
            reader.report_at(value.span(), "a test must be a table: write [[tests]]");
            continue;
        };
        let name = table.get("name").and_then(|name| name.get_ref().as_str());
        let name = name.map_or_else(|| number.to_string(), str::to_owned);
        let mut problems: Vec<(Position, _)> = Vec::new();
        let table = OptionTable { table: table.clone(), span: value.span() };
        let test = read_options::<PlannedTest>(table, &mut problems, |_| Vec::new());
        reader.report("test", &name, &std::collections::BTreeMap::new(), problems);
        let Some(test) = test else { continue };
        if tests.iter().any(|other| other.name == test.name) {
            reader.report_at(value.span(), format!("two tests are called \"{name}\""));
        }
        if let Some(chain) = &test.chain
            && !chains.iter().any(|known| known.name == *chain)
        {
            let message = format!("test \"{name}\": no chain is called \"{chain}\"");
            let hint = suggest(chain, chains.iter().map(|chain| chain.name.as_str()));
            reader.report_at(value.span(), message).hint = hint;
        }
        tests.push(test);
    }
    tests
}
