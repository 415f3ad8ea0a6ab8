use whalewatch_core::Event;
use whalewatch_testing::{Bench, Ran, TestEvent, TestType, example};

use super::*;

/// An event like those of the `network` tracker, with the one field that this handler reads.
#[derive(Clone)]
struct Network;

impl TestType for Network {
    const NAME: &'static str = "connected";
    const KINDS: &'static [&'static str] = &["network.connect"];
    const FIELDS: &'static [(&'static str, Type)] = &[(ADDRESS, Type::Text)];
}

type Connected = TestEvent<Network>;

fn connected(address: Option<&str>) -> Connected {
    let event = Connected::of("network.connect");
    match address {
        Some(address) => event.with(ADDRESS, address),
        None => event,
    }
}

fn bench() -> Bench<Geo> {
    Bench::new::<Connected>(&GeoOptions::default()).expect("good options")
}

/// Returns what the handler adds for addresses: country, system, organisation.
fn located(addresses: &[Option<&'static str>]) -> Vec<[String; 3]> {
    let mut bench = bench();
    let events = addresses.iter().copied().map(connected).collect();
    bench.handle(Batch::new("net".into(), events)).expect("it accepts them");
    assert!(bench.adds_up());
    let [batch] = &bench.out[..] else { panic!("one batch") };
    let fields = ["geo.country.iso_code", "geo.as.number", "geo.organization.name"];
    let fields = fields.map(|name| batch.schema().find(name).expect(name).1);
    let shown = |value| match value {
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Uint(number) => number.to_string(),
        _ => String::new(),
    };
    batch.iter().map(|event| fields.map(|field| shown(event.value(field)))).collect()
}

#[test]
fn addresses_are_located_and_unknown_ones_pass_unchanged() {
    let addresses = [
        Some("198.51.100.200"),
        Some("2001:db8::5"),
        Some("127.0.0.1"),
        Some("8.8.8.8"),
        Some("@"),
        None,
    ];
    let want = [
        ["XC", "64498", "Example Hosting, branch office"],
        ["XA", "64496", "Example Carrier"],
        ["", "", "loopback"],
        ["", "", ""],
        ["", "", ""],
        ["", "", ""],
    ];
    assert_eq!(located(&addresses), want.map(|place| place.map(str::to_owned)));
}

#[test]
fn events_without_an_address_are_not_extended() {
    let mut bench = bench();
    bench.handle(Batch::new("procs".into(), vec![example()])).expect("it accepts them");
    assert_eq!(bench.out[0].event_name(), Ran::NAME);
    assert_eq!(Geo::DECLARATION.extended(&Schema::of::<Ran>()), None);
    let extended = Geo::DECLARATION.extended(&Schema::of::<Connected>()).expect("it adds fields");
    assert!(extended.find("geo.as.number").is_some(), "conditions behind it can be on its fields");
}

#[test]
fn chain_without_addresses_and_empty_path_are_mistakes() {
    let options = GeoOptions { table: Some(PathBuf::new()) };
    let problems = Bench::<Geo>::new::<Ran>(&options).map(drop).expect_err("two mistakes");
    let messages: Vec<_> = problems.iter().map(|problem| &*problem.message).collect();
    let no_field = "no incoming event has a field `network.peer.address`";
    assert_eq!(messages, ["the path is empty", no_field]);
}

#[test]
fn unreadable_table_is_reported_when_the_handler_is_built() {
    let options = GeoOptions { table: Some("/nowhere/prefixes.csv".into()) };
    let problems = Bench::<Geo>::new::<Connected>(&options).map(drop).expect_err("no such file");
    assert!(problems[0].message.starts_with("table /nowhere/prefixes.csv: "), "{problems:?}");
}
