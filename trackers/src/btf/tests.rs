use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Builds BTF by hand.
#[derive(Default)]
struct Builder {
    types: Vec<u32>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    /// Adds a type and returns its id.
    fn add(&mut self, kind: u32, name: &str, size_or_type: u32) -> u32 {
        let name = self.name(name);
        self.types.extend([name, kind << 24, size_or_type]);
        self.count += 1;
        self.count
    }

    /// Adds a struct with members (name, type, offset word) and returns its id.
    fn add_struct(&mut self, flag: bool, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        let name = self.name(name);
        let info = 4 << 24 | u32::from(flag) << 31 | members.len() as u32;
        self.types.extend([name, info, 64]);
        for (name, type_id, offset) in members {
            let name = self.name(name);
            self.types.extend([name, *type_id, *offset]);
        }
        self.count += 1;
        self.count
    }

    /// Adds an enum and returns its id.
    fn add_enum(&mut self, name: &str, values: &[(&str, u32)]) -> u32 {
        let name = self.name(name);
        self.types.extend([name, 6 << 24 | values.len() as u32, 4]);
        for (name, value) in values {
            let name = self.name(name);
            self.types.extend([name, *value]);
        }
        self.count += 1;
        self.count
    }

    fn bytes(&self) -> Vec<u8> {
        let types = self.types.len() as u32 * 4;
        let mut bytes = Vec::new();
        bytes.extend(0xeb9f_u16.to_ne_bytes());
        bytes.extend([1, 0]);
        for word in [24, 0, types, types, self.strings.len() as u32] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(self.types.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(&self.strings);
        bytes
    }

    fn btf(&self) -> Btf {
        Btf::parse(self.bytes()).expect("well-formed by construction")
    }
}

/// A struct with every kind of member that the kernel has.
fn sample() -> Builder {
    let mut b = Builder::new();
    let int = b.add(1, "int", 4);
    b.types.push(32);
    let inner = b.add_struct(false, "inner", &[("x", int, 0), ("y", int, 32)]);
    let anonymous = b.add_struct(false, "", &[("p", int, 0), ("q", int, 64)]);
    let constant = b.add(10, "", inner);
    let alias = b.add(8, "inner_t", constant);
    let tagged = b.add(18, "rcu", alias);
    b.add_struct(
        false,
        "outer",
        &[("a", int, 0), ("", anonymous, 128), ("named", tagged, 320), ("b", int, 512)],
    );
    b.add_struct(true, "flags", &[("plain", int, 32), ("bit", int, 0x0100_0041)]);
    b
}

#[test]
fn members_are_found_plain_nested_and_anonymous() {
    let btf = sample().btf();
    for (path, want) in [("a", 0), ("p", 16), ("q", 24), ("named", 40), ("named.y", 44), ("b", 64)]
    {
        assert_eq!(btf.offset("outer", path).expect(path), want, "{path}");
    }
    assert_eq!(btf.offset("flags", "plain").expect("not a bit field"), 4);
    assert_eq!(btf.size("outer").expect("there"), 64);
}

#[test]
fn a_missing_member_is_named() {
    let btf = sample().btf();
    let text = |of, path| btf.offset(of, path).expect_err("missing").to_string();
    assert!(text("outer", "named.z").contains("no member `outer.named.z`"));
    assert!(text("outer", "a.x").contains("no member `outer.a.x`"));
    assert!(text("nothing", "a").contains("no struct nothing, so that `nothing.a`"));
    assert!(text("flags", "bit").contains("`flags.bit` is a bit field"));
}

#[test]
fn of_two_structs_with_one_name_the_one_with_the_member_is_found() {
    let mut b = Builder::new();
    b.add_struct(false, "twice", &[("first", 0, 0)]);
    b.add_struct(false, "twice", &[("pad", 0, 0), ("second", 0, 64)]);
    let btf = b.btf();
    assert_eq!(btf.offset("twice", "first").expect("in the first"), 0);
    assert_eq!(btf.offset("twice", "second").expect("in the second"), 8);
}

#[test]
fn loops_end_in_an_error() {
    let mut b = Builder::new();
    b.add(8, "self", 1);
    b.add_struct(false, "typedef_loop", &[("", 1, 0)]);
    b.add_struct(false, "anonymous_loop", &[("", 3, 0)]);
    // Every level doubles the work: without a bound on searched members it would never end.
    let wide: Vec<_> = (0..60_000).map(|_| ("", 5, 0)).collect();
    b.add_struct(false, "wide", &wide);
    b.add_struct(false, "", &[("x", 0, 0)]);
    let btf = b.btf();
    for of in ["typedef_loop", "anonymous_loop", "wide"] {
        let error = btf.offset(of, "absent").expect_err("no end otherwise");
        assert!(matches!(error, BtfError::Malformed(_)), "{of}: {error}");
    }
}

#[test]
fn offsets_that_overflow_are_an_error() {
    let mut b = Builder::new();
    let inner = b.add_struct(false, "", &[("x", 0, u32::MAX)]);
    b.add_struct(false, "outer", &[("", inner, 8)]);
    assert!(matches!(b.btf().offset("outer", "x"), Err(BtfError::Malformed(_))));
}

#[test]
fn a_short_or_foreign_file_is_refused() {
    let good = sample().bytes();
    for length in 0..good.len() {
        assert!(Btf::parse(good[..length].to_vec()).is_err(), "{length} bytes");
    }
    assert!(Btf::parse(b"\x7fELF and so on, long enough for a header".to_vec()).is_err());
}

#[test]
fn tracepoints_are_found_with_their_arguments() {
    let mut b = Builder::new();
    b.types.extend([0, 13 << 24 | 3, 0]);
    b.types.extend([0; 6]);
    b.count += 1;
    let pointer = b.add(2, "", 1);
    let typedef = b.add(8, "btf_trace_sched_process_exit", pointer);
    let btf = b.btf();
    let found = btf.tracepoint("sched_process_exit").expect("well-formed");
    assert_eq!(found, Some(Tracepoint { type_id: typedef, arguments: 2 }));
    assert_eq!(btf.tracepoint("sched_process_fork").expect("well-formed"), None);
}

/// Looks up everything in arbitrary data.
fn look_up(data: Vec<u8>) {
    if let Ok(btf) = Btf::parse(data) {
        for of in ["outer", "flags", "inner", ""] {
            for path in ["a", "q", "named.y", "bit", ""] {
                drop(btf.member(of, path));
            }
            drop(btf.size(of));
        }
        for name in ["x", ""] {
            drop(btf.tracepoint(name));
            let _ = (btf.function(name), btf.enumerator(name, name));
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        types in proptest::collection::vec(any::<u8>(), 0..600),
        strings in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        look_up([types.clone(), strings.clone()].concat());
        // With a valid header, so that the types are read.
        let (types_length, strings_length) = (types.len() as u32, strings.len() as u32);
        let header = [0x0001_eb9f, 24, 0, types_length, types_length, strings_length];
        let header = header.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        look_up([header, types, strings].concat());
    }

    #[test]
    fn no_change_to_valid_data_makes_it_panic(
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..12),
    ) {
        let mut data = sample().bytes();
        for (index, byte) in changes {
            let at = index.index(data.len());
            data[at] = byte;
        }
        look_up(data);
    }
}

#[test]
fn enumerators_are_found_by_name() {
    let mut builder = Builder::new();
    builder.add_enum("other", &[("b", 1)]);
    builder.add_enum("kinds", &[("a", 4), ("b", 9)]);
    let btf = Btf::parse(builder.bytes()).unwrap();
    assert_eq!(btf.enumerator("kinds", "b"), Some(9));
    assert_eq!(btf.enumerator("kinds", "c"), None);
    assert_eq!(btf.enumerator("none", "b"), None);
}
