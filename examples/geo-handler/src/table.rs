//! Prefixes of addresses with their places.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The place of a prefix. Unknown parts are empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) country: Box<str>,
    pub(crate) system: Option<u32>,
    pub(crate) organization: Box<str>,
}

/// Places by prefix; the longest matching prefix decides.
#[derive(Debug, Default)]
pub(crate) struct Table {
    v4: Prefixes,
    v6: Prefixes,
}

/// Places by length, longest first, and then by the prefix bits, followed by zeros.
#[derive(Debug, Default)]
struct Prefixes(Vec<(u32, HashMap<u128, Arc<Place>>)>);

impl Prefixes {
    fn find(&self, bits: u128, width: u32) -> Option<Arc<Place>> {
        let mut fitting =
            self.0.iter().filter_map(|(length, places)| places.get(&(bits & mask(*length, width))));
        fitting.next().map(Arc::clone)
    }

    /// Adds a place. Returns false if the prefix already had one.
    fn insert(&mut self, length: u32, bits: u128, place: Place) -> bool {
        let at = self.0.partition_point(|(longer, _)| *longer > length);
        if self.0.get(at).is_none_or(|(there, _)| *there != length) {
            self.0.insert(at, (length, HashMap::new()));
        }
        self.0[at].1.insert(bits, Arc::new(place)).is_none()
    }
}

/// Returns a mask of the first `length` of `width` bits.
fn mask(length: u32, width: u32) -> u128 {
    let all = u128::MAX >> (128 - width);
    all & !all.checked_shr(length).unwrap_or(0)
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

impl Table {
    /// Parses a table. An error names the line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut table = Self::default();
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                table.add(line).map_err(|error| format!("line {number}: {error}"))?;
            }
        }
        Ok(table)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let mut parts = line.splitn(4, ',').map(str::trim);
        let mut part = || parts.next().unwrap_or_default();
        let prefix = part();
        let (address, length) = prefix_of(prefix)
            .ok_or_else(|| format!("\"{prefix}\" is not a prefix such as 192.0.2.0/24"))?;
        let country = part();
        if !country.is_empty()
            && (country.len() != 2 || !country.bytes().all(|b| b.is_ascii_alphabetic()))
        {
            return Err(format!(
                "\"{country}\" is not a country: expected two letters, or nothing"
            ));
        }
        let system = match part() {
            "" => None,
            number => Some(number.parse().map_err(|_| {
                format!(
                    "\"{number}\" is not a system number: expected one such as 64496, or nothing"
                )
            })?),
        };
        let (bits, width) = bits(address);
        if bits & !mask(length, width) != 0 {
            return Err(format!("{prefix} has bits beyond its length: replace them with zeros"));
        }
        let place = Place { country: country.into(), system, organization: part().into() };
        let prefixes = if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        if !prefixes.insert(length, bits, place) {
            return Err(format!("{prefix} is already in the table: remove one of the two"));
        }
        Ok(())
    }

    /// Returns the place of the longest prefix that matches.
    pub(crate) fn find(&self, address: IpAddr) -> Option<Arc<Place>> {
        let address = address.to_canonical(); // A socket for both families shows ::ffff:192.0.2.1.
        let prefixes = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let (bits, width) = bits(address);
        prefixes.find(bits, width)
    }
}

fn prefix_of(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let length = length.parse().ok()?;
    (length <= bits(address).1).then_some((address, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn organization(table: &Table, address: &str) -> Option<String> {
        let place = table.find(address.parse().expect("an address"))?;
        Some(place.organization.to_string())
    }

    #[test]
    fn the_longest_prefix_decides() {
        let text = "0.0.0.0/0,,,all\n10.0.0.0/8,,,ten\n10.1.0.0/16,,,one\n10.1.2.3/32,,,host\n\
                    ::/0,,,six\n2001:db8::/32,,,example\n";
        let table = Table::parse(text).expect("a table");
        for (address, want) in [
            ("10.1.2.3", "host"),
            ("10.1.2.4", "one"),
            ("10.2.0.1", "ten"),
            ("255.255.255.255", "all"),
            ("2001:db8::1", "example"),
            ("2001:db9::1", "six"),
            ("::ffff:10.1.9.9", "one"),
        ] {
            assert_eq!(organization(&table, address).as_deref(), Some(want), "{address}");
        }
    }

    #[test]
    fn address_without_a_matching_prefix_has_no_place() {
        let table =
            Table::parse("# nothing\n\n192.0.2.0/24,XA,64496,A, with a comma\n").expect("a table");
        assert_eq!(organization(&table, "192.0.3.1"), None);
        assert_eq!(organization(&table, "::1"), None);
        let place = table.find([192, 0, 2, 9].into()).expect("it matches");
        let want = Place {
            country: "XA".into(),
            system: Some(64496),
            organization: "A, with a comma".into(),
        };
        assert_eq!(*place, want);
    }

    #[test]
    fn mistake_is_reported_with_its_line_and_a_fix() {
        for (line, said) in [
            ("192.0.2.0", "line 2: \"192.0.2.0\" is not a prefix such as 192.0.2.0/24"),
            ("192.0.2.0/33", "is not a prefix"),
            ("192.0.2.1/24", "192.0.2.1/24 has bits beyond its length"),
            ("192.0.2.0/24,Germany", "\"Germany\" is not a country"),
            ("192.0.2.0/24,XA,AS1", "\"AS1\" is not a system number"),
            ("10.0.0.0/8", "is already in the table"),
        ] {
            let error = Table::parse(&format!("10.0.0.0/8\n{line}\n")).expect_err(line);
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
