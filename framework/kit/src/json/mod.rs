//! Events as JSON lines, named by the OpenTelemetry semantic conventions.
//!
//! Nothing in a traced program's name, arguments or file names can end a line or control a
//! terminal. JSON must be UTF-8, so other bytes become U+FFFD.

mod plan;

use std::sync::Arc;

use whalewatch_core::{Attribution, Batch, EventRef, PerType, State, Value};

use crate::clock::Clock;
use crate::text::json_string;
use plan::{Content, Leaf, Plan};

/// Writes events as JSON lines.
///
/// The layout of an event type's lines is computed once; writing an event is then one pass without
/// allocations.
#[derive(Debug)]
pub struct Json {
    /// The host name, quoted.
    host: Box<[u8]>,
    clock: Clock,
    plans: PerType<Plan>,
    tails: Tails,
}

impl Json {
    /// Creates a writer of events; `host` is the host name.
    pub fn new(host: &str) -> Self {
        let mut quoted = Vec::new();
        json_string(&mut quoted, host.as_bytes());
        Self {
            host: quoted.into(),
            clock: Clock::new(),
            plans: PerType::new(),
            tails: Tails::default(),
        }
    }

    /// Writes all events of a batch.
    pub fn batch(&mut self, out: &mut Vec<u8>, batch: &Batch) {
        let plan = self.plan(batch);
        batch.iter().for_each(|event| self.event(out, plan, event));
    }

    /// Prepares for the events of a batch; returns the plan that [`Json::event`] takes.
    pub fn plan(&mut self, batch: &Batch) -> usize {
        self.plans.place(batch, Plan::new)
    }

    /// Writes an event as one line; `plan` is that of its batch.
    pub fn event(&mut self, out: &mut Vec<u8>, plan: usize, event: EventRef<'_>) {
        out.extend_from_slice(b"{\"time\":\"");
        self.clock.rfc3339(out, event.time());
        out.extend_from_slice(b"\",\"kind\":");
        json_string(out, event.kind().as_bytes());

        let plan = &self.plans[plan];
        let (clock, host) = (&mut self.clock, &*self.host);
        let mut line = Line { out, event, host, clock, depth: 0, shared: 0 };
        line.leaves(&plan.leaves[..plan.container.start]);
        line.close(0);
        if plan.common_tail {
            self.tails.write(&mut line, plan);
        } else {
            line.tail(plan);
        }
        out.extend_from_slice(b"}\n");
    }
}

/// The number of attributions whose text is kept.
const TAILS: usize = 16;

/// The ends of recent lines, with the container and the attribution: events of one container share
/// them.
#[derive(Debug, Default)]
struct Tails {
    kept: Vec<(Attribution, Box<[u8]>)>,
    /// The index of the entry to replace next.
    oldest: usize,
}

impl Tails {
    fn write(&mut self, line: &mut Line<'_>, plan: &Plan) {
        let attribution = line.event.attribution();
        if let Some((_, text)) = self.kept.iter().find(|(kept, _)| same(kept, attribution)) {
            line.out.extend_from_slice(text);
            return;
        }
        let start = line.out.len();
        line.tail(plan);
        let entry = (attribution.clone(), line.out[start..].into());
        if self.kept.len() < TAILS {
            self.kept.push(entry);
        } else {
            self.kept[self.oldest] = entry;
            self.oldest = (self.oldest + 1) % TAILS;
        }
    }
}

/// Whether two attributions have the same text. Containers are compared by snapshot, which never
/// changes: comparing the contents of two would cost more than writing one.
fn same(a: &Attribution, b: &Attribution) -> bool {
    let container = match (&a.container, &b.container) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    };
    container && a.state == b.state && a.evidence == b.evidence
}

/// A line being written.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    event: EventRef<'a>,
    host: &'a [u8],
    clock: &'a mut Clock,
    /// The number of open objects.
    depth: usize,
    /// The number of them that the current leaf is in, too.
    shared: usize,
}

impl Line<'_> {
    /// Writes the leaves that have a value; returns whether there was one.
    fn leaves(&mut self, leaves: &[Leaf]) -> bool {
        let mut any = false;
        for leaf in leaves {
            self.shared = self.shared.min(leaf.shared);
            let value = match leaf.content {
                Content::Host => None,
                Content::Field(accessor) => Some(self.event.value(accessor)),
            };
            if value == Some(Value::Null) && !self.shows_null(leaf) {
                continue;
            }
            any = true;
            self.close(self.shared);
            self.out.extend_from_slice(&leaf.leads[self.shared]);
            match value {
                None => self.out.extend_from_slice(self.host),
                Some(value) => json_value(self.out, self.clock, value),
            }
            self.depth = leaf.depth;
            self.shared = leaf.depth;
        }
        any
    }

    /// Writes the leaves from the container on, and closes every object.
    fn tail(&mut self, plan: &Plan) {
        let any = self.leaves(&plan.leaves[plan.container.clone()]);
        self.close(0);
        if !any && self.event.attribution().state != State::Unset {
            self.out.extend_from_slice(b",\"container\":null");
        }
        self.leaves(&plan.leaves[plan.container.end..]);
        self.close(0);
    }

    fn shows_null(&self, leaf: &Leaf) -> bool {
        leaf.even_null && self.event.attribution().container.is_some()
    }

    /// Closes objects until only `depth` are open.
    fn close(&mut self, depth: usize) {
        for _ in depth..self.depth {
            self.out.push(b'}');
        }
        self.depth = depth;
        self.shared = self.shared.min(depth);
    }
}

fn json_value(out: &mut Vec<u8>, clock: &mut Clock, value: Value<'_>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(n) => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
        Value::Uint(n) => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
        Value::Text(text) => json_string(out, text),
        Value::Texts(texts) => {
            out.push(b'[');
            for (i, text) in texts.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                json_string(out, text);
            }
            out.push(b']');
        }
        Value::Time(time) => {
            out.push(b'"');
            clock.rfc3339(out, time);
            out.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use whalewatch_core::{Container, Evidence, Status};

    use super::*;
    use whalewatch_testing::{Odd, Ran, bare, example, named};

    fn lines(batch: &Batch) -> String {
        let (mut json, mut out) = (Json::new("node-1"), Vec::new());
        json.batch(&mut out, batch);
        String::from_utf8(out).unwrap()
    }

    fn attributed(attribution: &Attribution) -> String {
        let batch = Batch::new("procs".into(), vec![example()]);
        lines(&batch.with_attributions([attribution.clone()]))
    }

    /// The example's line up to the container, which is the same for all attributions.
    const EXAMPLE: &str = concat!(
        r#"{"time":"2026-11-23T13:46:20.171234567Z","kind":"process.exec","#,
        r#""host":{"name":"node-1"},"#,
        r#""process":{"pid":19920,"tid":19920,"vpid":1,"parent_pid":19901,"start_time":940973514,"#,
        r#""comm":"true","executable":{"path":"/bin/true"},"command_args":["/bin/true"],"#,
        r#""user":{"id":0},"group":{"id":0},"#,
        r#""namespaces":{"user":4026531837,"pid":4026532183,"mnt":4026532180,"net":4026532185},"#,
        r#""cgroup_id":12227}"#
    );

    #[test]
    fn example_is_written_as_documented() {
        let id = "e0d4".repeat(16);
        let want = format!(
            concat!(
                r#"{},"container":{{"id":"{}","name":"short","image":{{"name":"bb:1"}},"#,
                r#""runtime":"docker","status":"running"}},"#,
                r#""attribution":{{"state":"resolved","evidence":"cgroup"}}}}"#,
                "\n"
            ),
            EXAMPLE, id
        );
        let short = named(&id, "short", "bb:1", Status::Running);
        assert_eq!(attributed(&Attribution::container(short, Evidence::Cgroup)), want);
    }

    #[test]
    fn container_of_a_pod_has_its_pod_beside_it() {
        let short = named("ab", "short", "bb:1", Status::Running);
        let labels = [
            ("io.kubernetes.pod.name".to_owned(), "web-0".to_owned()),
            ("io.kubernetes.pod.namespace".to_owned(), "shop".to_owned()),
            ("io.kubernetes.container.name".to_owned(), "short".to_owned()),
        ];
        let short = Arc::new(Container { labels: labels.into(), ..(*short).clone() });
        let want = concat!(
            r#""runtime":"docker","status":"running"},"#,
            r#""k8s":{"pod":{"name":"web-0"},"namespace":{"name":"shop"},"#,
            r#""container":{"name":"short"}},"#,
            r#""attribution":{"state":"resolved","evidence":"cgroup"}}"#,
            "\n"
        );
        let line = attributed(&Attribution::container(short, Evidence::Cgroup));
        assert!(line.ends_with(want), "{line}");
    }

    #[test]
    fn pending_container_has_a_null_name() {
        let want = format!(
            concat!(
                r#"{},"container":{{"id":"ab","name":null,"#,
                r#""runtime":"docker","status":"unknown"}},"#,
                r#""attribution":{{"state":"pending","evidence":"cgroup"}}}}"#,
                "\n"
            ),
            EXAMPLE
        );
        assert_eq!(
            attributed(&Attribution::container(Arc::new(bare("ab")), Evidence::Cgroup)),
            want
        );
    }

    #[test]
    fn host_and_unknown_have_a_null_container() {
        let host = format!(
            "{EXAMPLE},\"container\":null,\
             \"attribution\":{{\"state\":\"host\",\"evidence\":\"pid\"}}}}\n"
        );
        assert_eq!(attributed(&Attribution::host(Evidence::Pid)), host);
        let unknown =
            format!("{EXAMPLE},\"container\":null,\"attribution\":{{\"state\":\"unknown\"}}}}\n");
        assert_eq!(attributed(&Attribution::unknown()), unknown);
        assert_eq!(attributed(&Attribution::default()), format!("{EXAMPLE}}}\n"));
    }

    #[test]
    fn each_event_has_its_own_container_when_many_alternate() {
        let mut batch = Batch::new("procs".into(), vec![example(); 3 * TAILS * 3]);
        let containers: Vec<_> = (0..3 * TAILS)
            .map(|i| named(&format!("id{i}"), &format!("name{i}"), "i", Status::Running))
            .collect();
        let mut turn = 0;
        batch.attribute(|_| {
            turn += 1;
            match turn % 7 {
                0 => Attribution::host(Evidence::Cgroup),
                1 => Attribution::unknown(),
                _ => {
                    let container = &containers[turn * turn % containers.len()];
                    Attribution::container(Arc::clone(container), Evidence::Cgroup)
                }
            }
        });
        for (line, event) in lines(&batch).lines().zip(batch.iter()) {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let attribution = event.attribution();
            let id = attribution.container.as_ref().map(|container| &*container.id);
            assert_eq!(value["container"]["id"].as_str(), id);
            assert_eq!(value["attribution"]["state"].as_str(), attribution.state.as_str());
        }
    }

    #[test]
    fn objects_without_values_are_left_out() {
        let ended =
            Ran { kind: "process.exit", path: None, args: None, exit: Some(1), ..example() };
        let line = lines(&Batch::new("procs".into(), vec![ended]));
        assert!(line.contains(r#""comm":"true","exit":{"code":1},"user":{"id":0}"#), "{line}");
        assert!(!line.contains("executable"), "{line}");
    }

    #[test]
    fn all_types_and_conflicting_names_make_valid_json() {
        let line = lines(&Batch::new("odd".into(), vec![Odd]));
        let want = concat!(
            r#"{"time":"1970-01-01T00:00:01.000000000Z","kind":"odd","#,
            r#""host":{"name":"node-1","zone":"b"},"#,
            r#""a":{"yes":true,"b":{"c":-5}},"when":"1970-01-01T00:00:02.000000000Z","#,
            r#""list":[],"name":"\u001b]0;x\u0007","a.yes.deep":7,"container":{"own":1}}"#,
            "\n"
        );
        assert_eq!(line, want);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["a"]["b"]["c"], -5);
    }

    #[test]
    fn hostile_arguments_stay_on_one_line() {
        let args = b"sh\0-c\0a\n\"\x1b[2J\xff\0\0".to_vec();
        let event = Ran { args: Some(args), ..example() };
        let line = lines(&Batch::new("procs".into(), vec![event.clone(), event]));
        assert_eq!(line.matches('\n').count(), 2);
        let value: serde_json::Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
        let want = serde_json::json!(["sh", "-c", "a\n\"\u{1b}[2J\u{fffd}", ""]);
        assert_eq!(value["process"]["command_args"], want);
    }
}
