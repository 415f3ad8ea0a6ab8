//! The fields that events can be counted by.

use std::fmt;
use std::str::FromStr;

/// A field to count events by: one of [`GROUPS`], or any other field, which is looked up in the
/// JSON of each event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    name: String,
    sql: String,
}

/// Names of the fields that have a column, and the SQL expressions for them.
const COLUMNS: [(&str, &str); 20] = [
    ("day", "strftime('%Y-%m-%d', e.time / 1000000000, 'unixepoch')"),
    ("hour", "strftime('%Y-%m-%dT%H:00Z', e.time / 1000000000, 'unixepoch')"),
    ("kind", "k.name"),
    ("host.name", "h.name"),
    ("container.name", "c.name"),
    ("container.id", "c.id"),
    ("container.image.name", "c.image"),
    ("container.runtime", "c.runtime"),
    ("attribution.state", "e.attribution"),
    ("process.pid", "e.pid"),
    ("process.parent_pid", "e.parent_pid"),
    ("process.comm", "e.comm"),
    ("process.user.id", "e.uid"),
    ("process.executable.path", "e.executable"),
    ("process.exit.code", "e.exit_code"),
    ("path", "e.path"),
    ("file.to.path", "e.to_path"),
    ("network.peer.address", "e.peer_address"),
    ("network.peer.port", "e.peer_port"),
    ("error.type", "e.error"),
];

/// The fields that are counted fast, from columns. `day` and `hour` are those of the event, in UTC;
/// `path` is the path of the file or mount point that the event is about.
pub const GROUPS: [&str; COLUMNS.len()] = {
    let mut names = [""; COLUMNS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = COLUMNS[at].0;
        at += 1;
    }
    names
};

impl Group {
    /// Returns the field's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the field is looked up in JSON. It is then not known whether any event has it.
    pub fn in_json(&self) -> bool {
        self.sql.starts_with("json_extract(")
    }

    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let name = name.trim();
        let found = COLUMNS.iter().find(|(known, _)| *known == name);
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let sql = match found {
            Some((_, sql)) => (*sql).to_owned(),
            None if name.split('.').all(|part| !part.is_empty() && part.chars().all(fits)) => {
                let parts: Vec<String> = name.split('.').map(|p| format!("\"{p}\"")).collect();
                format!("json_extract(b.json, '$.{}')", parts.join("."))
            }
            None => {
                return Err(format!(
                    "{name:?} is not a field: write for example container.name or {}",
                    GROUPS.join(", ")
                ));
            }
        };
        Ok(Self { name: name.to_owned(), sql })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Returns the joins that these fields need.
pub(crate) fn joins(groups: &[Group]) -> String {
    const JOINS: [(&str, &str); 4] = [
        ("k.", "JOIN kinds k ON k.key = e.kind"),
        ("h.", "JOIN hosts h ON h.key = e.host"),
        ("c.", "LEFT JOIN containers c ON c.key = e.container"),
        ("json_extract(b.", "JOIN bodies b ON b.event = e.id"),
    ];
    let used = |prefix: &str| groups.iter().any(|group| group.sql.starts_with(prefix));
    let joins: Vec<&str> =
        JOINS.iter().filter(|(prefix, _)| used(prefix)).map(|(_, join)| *join).collect();
    joins.join(" ")
}
