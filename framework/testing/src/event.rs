//! Events that a test makes up.

use std::fmt;
use std::marker::PhantomData;

use whalewatch_core::{
    Change, Event, Field, FieldInfo, OwnedValue, Process, Timestamp, Type, Value,
};

/// A type of [`TestEvent`]s: their name, kinds and fields.
///
/// [`Common`] suits most tests. A test that depends on exact names declares its own type:
///
/// ```
/// use whalewatch_core::{Schema, Type};
/// use whalewatch_testing::{TestEvent, TestType};
///
/// #[derive(Clone)]
/// struct Alert;
///
/// impl TestType for Alert {
///     const NAME: &'static str = "alert";
///     const KINDS: &'static [&'static str] = &["alert"];
///     const FIELDS: &'static [(&'static str, Type)] = &[("alert.severity", Type::Text)];
/// }
///
/// let event = TestEvent::<Alert>::of("alert").with("alert.severity", "high");
/// assert!(Schema::of::<TestEvent<Alert>>().find("alert.severity").is_some());
/// # drop(event);
/// ```
pub trait TestType: Clone + Send + Sync + 'static {
    /// [`Event::NAME`].
    const NAME: &'static str;
    /// [`Event::KINDS`].
    const KINDS: &'static [&'static str];
    /// Names and types of the fields, at most 40.
    const FIELDS: &'static [(&'static str, Type)] = &[];
}

/// Kinds and fields that the trackers have too, and a field of each type: `flag`, `signed`,
/// `number`, `text`, `texts` and `when`.
#[derive(Clone, Copy, Debug)]
pub struct Common;

impl TestType for Common {
    const NAME: &'static str = "test";
    const KINDS: &'static [&'static str] = &[
        "test",
        "process.existing",
        "process.fork",
        "process.exec",
        "process.exit",
        "file.open",
        "network.connect",
        "cgroup.create",
        "cgroup.remove",
    ];
    const FIELDS: &'static [(&'static str, Type)] = &[
        ("process.executable.path", Type::Text),
        ("process.command_args", Type::Texts),
        ("process.exit.code", Type::Int),
        ("process.exit.signal", Type::Int),
        ("file.path", Type::Text),
        ("network.peer.address", Type::Text),
        ("network.peer.port", Type::Uint),
        ("flag", Type::Bool),
        ("signed", Type::Int),
        ("number", Type::Uint),
        ("text", Type::Text),
        ("texts", Type::Texts),
        ("when", Type::Time),
    ];
}

const MOST_FIELDS: usize = 40;

macro_rules! getters {
    ($($place:literal)*) => { [$(Self::numbered::<$place>),*] };
}

/// An event that consists of what a test sets; fields that are not set are null.
///
/// ```
/// use whalewatch_core::Change;
/// use whalewatch_testing::{TestEvent, process};
///
/// let event = TestEvent::new("process.exec")
///     .at(1_000)
///     .by(process(7, "sh"))
///     .changing(Change::Executed)
///     .with("process.executable.path", "/bin/sh")
///     .with("number", 5);
/// # drop(event);
/// ```
#[derive(Clone)]
pub struct TestEvent<T = Common> {
    kind: &'static str,
    time: Timestamp,
    process: Option<Process>,
    target: Option<Process>,
    cgroup: Option<u64>,
    change: Option<Change<'static>>,
    /// In the order of the type's fields; missing ones at the end are null.
    values: Vec<OwnedValue>,
    ty: PhantomData<fn() -> T>,
}

impl TestEvent {
    /// Creates an event of the type [`Common`]; see [`TestEvent::of`].
    pub fn new(kind: &'static str) -> Self {
        Self::of(kind)
    }
}

impl<T: TestType> TestEvent<T> {
    /// Creates an event of this kind, at time 0, that no process caused.
    ///
    /// # Panics
    /// If the type has no such kind.
    pub fn of(kind: &'static str) -> Self {
        assert!(T::KINDS.contains(&kind), "{} events have no kind {kind}", T::NAME);
        Self {
            kind,
            time: Timestamp(0),
            process: None,
            target: None,
            cgroup: None,
            change: None,
            values: Vec::new(),
            ty: PhantomData,
        }
    }

    /// Sets the time, in nanoseconds since 1970.
    #[must_use]
    pub fn at(self, nanos: u64) -> Self {
        Self { time: Timestamp(nanos), ..self }
    }

    /// Sets the process that caused the event.
    #[must_use]
    pub fn by(self, process: Process) -> Self {
        Self { process: Some(process), ..self }
    }

    /// Sets the process that it was done to.
    #[must_use]
    pub fn to(self, target: Process) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Sets the cgroup that the event is about.
    #[must_use]
    pub fn in_cgroup(self, id: u64) -> Self {
        Self { cgroup: Some(id), ..self }
    }

    /// Sets what the event says about processes and cgroups. A path is copied and never freed.
    #[must_use]
    pub fn changing(self, change: Change<'_>) -> Self {
        let kept = |path: &[u8]| &*path.to_vec().leak();
        let change = match change {
            Change::Existing => Change::Existing,
            Change::Forked { parent } => Change::Forked { parent },
            Change::Executed => Change::Executed,
            Change::Exited => Change::Exited,
            Change::Moved { process, to } => Change::Moved { process, to },
            Change::CgroupMade { id, path } => Change::CgroupMade { id, path: kept(path) },
            Change::CgroupRemoved { id, path } => Change::CgroupRemoved { id, path: kept(path) },
            Change::CgroupRenamed { id, path } => Change::CgroupRenamed { id, path: kept(path) },
        };
        Self { change: Some(change), ..self }
    }

    /// Sets a field. A number that is not negative fits both types of numbers.
    ///
    /// # Panics
    /// If the type has no such field, or the field is of another type.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OwnedValue>) -> Self {
        let place = T::FIELDS.iter().position(|(known, _)| *known == name);
        let place = place.unwrap_or_else(|| panic!("{} events have no field {name}", T::NAME));
        if self.values.len() <= place {
            self.values.resize(place + 1, OwnedValue::Null);
        }
        self.values[place] = fitted(T::FIELDS[place].1, value.into())
            .unwrap_or_else(|value| panic!("the field {name} cannot be {value:?}"));
        self
    }

    /// Returns the value of a field.
    ///
    /// # Panics
    /// If the type has no such field.
    pub fn value(&self, name: &str) -> Value<'_> {
        let field = Self::FIELDS.iter().find(|field| field.info.name == name);
        let field = field.unwrap_or_else(|| panic!("{} events have no field {name}", T::NAME));
        (field.get)(self)
    }

    fn numbered<const PLACE: usize>(&self) -> Value<'_> {
        self.values.get(PLACE).map_or(Value::Null, OwnedValue::get)
    }

    /// A field is read through a function pointer, which cannot carry a number, so each field has
    /// its own function.
    const GETTERS: [fn(&Self) -> Value<'_>; MOST_FIELDS] = getters![
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19
        20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39
    ];

    const TABLE: &'static [Field<Self>] = &Self::table();

    const fn table() -> [Field<Self>; MOST_FIELDS] {
        let unused = FieldInfo { name: "", ty: Type::Bool, doc: "" };
        let mut table = [const {
            Field {
                info: FieldInfo { name: "", ty: Type::Bool, doc: "" },
                get: Self::numbered::<0>,
            }
        }; MOST_FIELDS];
        let mut place = 0;
        while place < MOST_FIELDS {
            let info = if place < T::FIELDS.len() {
                FieldInfo { name: T::FIELDS[place].0, ty: T::FIELDS[place].1, doc: "" }
            } else {
                unused
            };
            table[place] = Field { info, get: Self::GETTERS[place] };
            place += 1;
        }
        table
    }
}

/// Converts a value to the type of a field, or returns it as an error if it does not fit.
fn fitted(ty: Type, value: OwnedValue) -> Result<OwnedValue, OwnedValue> {
    match (ty, value) {
        (_, OwnedValue::Null) => Ok(OwnedValue::Null),
        (Type::Uint, OwnedValue::Int(number)) => {
            u64::try_from(number).map(OwnedValue::Uint).map_err(|_| OwnedValue::Int(number))
        }
        (Type::Int, OwnedValue::Uint(number)) => {
            i64::try_from(number).map(OwnedValue::Int).map_err(|_| OwnedValue::Uint(number))
        }
        (Type::Bool, value @ OwnedValue::Bool(_))
        | (Type::Int, value @ OwnedValue::Int(_))
        | (Type::Uint, value @ OwnedValue::Uint(_))
        | (Type::Text, value @ OwnedValue::Text(_))
        | (Type::Texts, value @ OwnedValue::Texts(_))
        | (Type::Time, value @ OwnedValue::Time(_)) => Ok(value),
        (_, value) => Err(value),
    }
}

impl<T: TestType> Event for TestEvent<T> {
    const NAME: &'static str = T::NAME;
    const KINDS: &'static [&'static str] = T::KINDS;
    const FIELDS: &'static [Field<Self>] = Self::TABLE.split_at(T::FIELDS.len()).0;

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn target(&self) -> Option<&Process> {
        self.target.as_ref()
    }

    fn cgroup(&self) -> Option<u64> {
        self.cgroup
    }

    fn change(&self) -> Option<Change<'_>> {
        self.change
    }
}

impl<T: TestType> fmt::Debug for TestEvent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestEvent")
            .field("kind", &self.kind)
            .field("time", &self.time)
            .field("values", &self.values)
            .finish_non_exhaustive()
    }
}

/// Returns a command name as the kernel has it: at most 15 bytes, padded with NUL bytes.
pub fn comm(name: &str) -> [u8; 16] {
    let mut comm = [0; 16];
    let length = name.len().min(15);
    comm[..length].copy_from_slice(&name.as_bytes()[..length]);
    comm
}

/// Returns a process with this id, which is also its thread id, and this command name.
pub fn process(pid: u32, name: &str) -> Process {
    Process { pid, tid: pid, comm: comm(name), ..Process::default() }
}

#[cfg(test)]
mod tests {
    use whalewatch_core::{Batch, Schema};

    use super::*;

    #[derive(Clone)]
    struct Small;

    impl TestType for Small {
        const NAME: &'static str = "small";
        const KINDS: &'static [&'static str] = &["small.one", "small.two"];
        const FIELDS: &'static [(&'static str, Type)] =
            &[("small.count", Type::Uint), ("small.delta", Type::Int)];
    }

    #[test]
    fn fields_are_read_by_name_and_null_unless_set() {
        let event = TestEvent::new("file.open")
            .with("text", "x")
            .with("flag", true)
            .with("texts", OwnedValue::texts([&b"a"[..], b"b"]));
        assert_eq!(event.value("text"), Value::Text(b"x"));
        assert_eq!(event.value("number"), Value::Null);
        assert_eq!(event.value("when"), Value::Null);
        let batch = Batch::new("t".into(), vec![event]);
        let (_, accessor) = batch.schema().find("flag").expect("a field of that name");
        assert_eq!(batch.get(0).expect("an event").value(accessor), Value::Bool(true));
    }

    #[test]
    fn own_type_has_its_name_kinds_and_fields_and_no_others() {
        let schema = Schema::of::<TestEvent<Small>>();
        assert_eq!((schema.name, schema.kinds), ("small", Small::KINDS));
        let own: Vec<_> = schema.own().map(|(info, _)| (info.name, info.ty)).collect();
        assert_eq!(own, Small::FIELDS);
        let event = TestEvent::<Small>::of("small.two").with("small.delta", 5_u64);
        assert_eq!(event.value("small.delta"), Value::Int(5));
    }

    #[test]
    fn event_has_the_process_target_cgroup_and_change_that_were_set() {
        let path = "/system.slice".to_owned();
        let event = TestEvent::new("test")
            .at(9)
            .by(process(7, "a-long-command-name"))
            .to(process(8, "sh"))
            .in_cgroup(3)
            .changing(Change::CgroupMade { id: 3, path: path.as_bytes() });
        drop(path);
        assert_eq!((event.time(), event.cgroup()), (Timestamp(9), Some(3)));
        assert_eq!(event.process().map(Process::comm), Some(&b"a-long-command-"[..]));
        assert_eq!(event.target().map(|target| target.pid), Some(8));
        let change = Change::CgroupMade { id: 3, path: b"/system.slice" };
        assert_eq!(event.change(), Some(change));
    }

    #[test]
    #[should_panic(expected = "cannot be Int(-1)")]
    fn value_of_another_type_is_refused() {
        let _event = TestEvent::new("test").with("number", -1);
    }

    #[test]
    #[should_panic(expected = "small events have no kind test")]
    fn kind_of_another_type_is_refused() {
        let _event = TestEvent::<Small>::of("test");
    }
}
