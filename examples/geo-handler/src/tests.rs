use whalewatch_core::Event;
use whalewatch_kit::testing::{Bench, Ran, TestEvent, TestType, example};

use super::*;

/// An event like those of the `network` tracker, as far as this handler looks at it.
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

/// What the handler says of addresses: country, system, organisation.
fn located(addresses: &[Option<&'static str>]) -> Vec<[String; 3]> {
    let mut bench = bench();
    let events = addresses.iter().copied().map(connected).collect();
    bench.handle(Batch::new("net".into(), events)).expect("it takes them");
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
fn each_address_is_located_and_what_cannot_be_goes_on_without() {
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
fn events_without_an_address_stay_what_they_are() {
    let mut bench = bench();
    bench.handle(Batch::new("procs".into(), vec![example()])).expect("it takes them");
    assert_eq!(bench.out[0].event_name(), Ran::NAME);
    assert_eq!(Geo::DECLARATION.extended(&Schema::of::<Ran>()), None);
    let extended = Geo::DECLARATION.extended(&Schema::of::<Connected>()).expect("it adds to them");
    assert!(extended.find("geo.as.number").is_some(), "conditions behind it can be on its fields");
}

#[test]
fn a_chain_without_addresses_and_a_path_that_is_none_are_mistakes() {
    let options = GeoOptions { table: Some(PathBuf::new()) };
    let problems = Bench::<Geo>::new::<Ran>(&options).map(drop).expect_err("two mistakes");
    let messages: Vec<_> = problems.iter().map(|problem| &*problem.message).collect();
    let no_field = "no incoming event has a field `network.peer.address`";
    assert_eq!(messages, ["this is no path of a file", no_field]);
}

#[test]
fn a_table_that_cannot_be_read_is_told_when_the_handler_is_built() {
    let options = GeoOptions { table: Some("/nowhere/prefixes.csv".into()) };
    let problems = Bench::<Geo>::new::<Connected>(&options).map(drop).expect_err("no such file");
    assert!(problems[0].message.starts_with("the table /nowhere/prefixes.csv: "), "{problems:?}");
}
