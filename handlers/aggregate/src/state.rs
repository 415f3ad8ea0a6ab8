//! Intermediate results of computations.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use datasketches::hll::{HllSketch, HllType};
use rustc_hash::FxHashSet;
use whalewatch_core::{OwnedValue, Value};
use whalewatch_kit::fields::write_plain;
use whalewatch_kit::{Clock, keys};

use crate::compute::Function;

/// An estimate has 2^12 registers of one byte: a standard error of 1.3 %.
const PRECISION: u8 = 12;

/// `top` cuts texts after this many bytes.
pub(crate) const MAX_TEXT: usize = 512;

/// Reused buffers.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    clock: Clock,
}

/// The intermediate result of a computation for one group.
#[derive(Debug)]
pub(crate) enum State {
    Count(u64),
    Sum(i128),
    Min(Option<i128>),
    Max(Option<i128>),
    Distinct(Distinct),
    Top(Top),
}

impl State {
    /// Creates the state without any event. `Distinct` and `Top` keep at most `max` values.
    pub(crate) fn new(function: Function, max: usize) -> Self {
        match function {
            Function::Count => Self::Count(0),
            Function::Sum => Self::Sum(0),
            Function::Min => Self::Min(None),
            Function::Max => Self::Max(None),
            Function::Distinct => Self::Distinct(Distinct::new(max)),
            Function::Top(count) => Self::Top(Top::new(count, max)),
        }
    }

    /// Adds the value of an event. It must not be null.
    pub(crate) fn add(&mut self, value: Value<'_>, scratch: &mut Scratch) {
        let number = match value {
            Value::Int(number) => Some(i128::from(number)),
            Value::Uint(number) => Some(i128::from(number)),
            _ => None,
        };
        match (self, number) {
            (Self::Count(count), _) => *count += 1,
            (Self::Sum(sum), Some(number)) => *sum = sum.saturating_add(number),
            (Self::Min(min), Some(number)) => *min = Some(min.map_or(number, |m| m.min(number))),
            (Self::Max(max), Some(number)) => *max = Some(max.map_or(number, |m| m.max(number))),
            // Not a number: the options were checked without the schema of this event.
            (Self::Sum(_) | Self::Min(_) | Self::Max(_), None) => {}
            (Self::Distinct(distinct), _) => {
                scratch.bytes.clear();
                keys::encode(&mut scratch.bytes, value);
                distinct.add(&scratch.bytes);
            }
            (Self::Top(top), _) => match value {
                Value::Text(text) => top.add(text),
                value => {
                    scratch.bytes.clear();
                    write_plain(&mut scratch.bytes, &mut scratch.clock, value);
                    top.add(&scratch.bytes);
                }
            },
        }
    }

    /// Returns whether the result is not exact.
    pub(crate) fn is_estimate(&self) -> bool {
        match self {
            Self::Distinct(distinct) => matches!(distinct.seen, Seen::Many(_)),
            Self::Top(top) => top.lowered > 0,
            _ => false,
        }
    }

    /// Appends the values of the result's fields.
    pub(crate) fn finish(self, values: &mut Vec<OwnedValue>) {
        let int = |number: i128| {
            let fits = number.clamp(i64::MIN.into(), i64::MAX.into());
            OwnedValue::Int(i64::try_from(fits).unwrap_or_default())
        };
        match self {
            Self::Count(count) => values.push(OwnedValue::Uint(count)),
            Self::Sum(sum) => values.push(int(sum)),
            Self::Min(number) | Self::Max(number) => {
                values.push(number.map_or(OwnedValue::Null, int));
            }
            Self::Distinct(distinct) => values.push(OwnedValue::Uint(distinct.count())),
            Self::Top(top) => top.finish(values),
        }
    }
}

/// Counts different values: exactly by 64-bit hashes up to `max` values, then by a sketch
/// ([`HllSketch`]).
#[derive(Debug)]
pub(crate) struct Distinct {
    max: usize,
    seen: Seen,
}

#[derive(Debug)]
enum Seen {
    Few(FxHashSet<u64>),
    Many(Box<HllSketch>),
}

impl Distinct {
    fn new(max: usize) -> Self {
        Self { max, seen: Seen::Few(FxHashSet::default()) }
    }

    fn add(&mut self, value: &[u8]) {
        // This hasher has no random seed, so that a replay gives the same estimate.
        let mut hasher = DefaultHasher::new();
        hasher.write(value);
        let hash = hasher.finish();
        match &mut self.seen {
            Seen::Many(sketch) => sketch.update(hash),
            Seen::Few(hashes) if hashes.len() < self.max || hashes.contains(&hash) => {
                hashes.insert(hash);
            }
            Seen::Few(hashes) => {
                // This fails only for a precision that does not exist.
                let Ok(mut sketch) = HllSketch::new(PRECISION, HllType::Hll8) else { return };
                // The estimate depends slightly on the order, which is random in a set.
                let mut known: Vec<_> = hashes.iter().copied().collect();
                known.sort_unstable();
                known.push(hash);
                for hash in known {
                    sketch.update(hash);
                }
                self.seen = Seen::Many(Box::new(sketch));
            }
        }
    }

    fn count(&self) -> u64 {
        match &self.seen {
            Seen::Few(hashes) => hashes.len() as u64,
            Seen::Many(sketch) => sketch.estimate().round() as u64,
        }
    }
}

/// Counts the most frequent values: exactly up to `max` different ones, then by the algorithm of
/// Misra and Gries. If there is no room for a value, all counts are lowered by one and those that
/// reach 0 are removed. A count is therefore never too high, and too low by at most `lowered`,
/// which is at most one in `max + 1` events.
#[derive(Debug)]
pub(crate) struct Top {
    /// How many values to return.
    count: usize,
    max: usize,
    counts: HashMap<Box<[u8]>, u64>,
    /// How many times all counts were lowered by one.
    lowered: u64,
}

impl Top {
    fn new(count: usize, max: usize) -> Self {
        Self { count, max, counts: HashMap::new(), lowered: 0 }
    }

    fn add(&mut self, value: &[u8]) {
        let value = &value[..value.len().min(MAX_TEXT)];
        if let Some(count) = self.counts.get_mut(value) {
            *count += 1;
        } else if self.counts.len() < self.max {
            self.counts.insert(value.into(), 1);
        } else {
            self.lowered += 1;
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    fn finish(self, values: &mut Vec<OwnedValue>) {
        let mut counts: Vec<_> = self.counts.into_iter().collect();
        counts.sort_unstable_by(|(a, more), (b, than)| than.cmp(more).then_with(|| a.cmp(b)));
        counts.truncate(self.count);
        let numbers: Vec<_> = counts.iter().map(|(_, count)| count.to_string()).collect();
        values.push(OwnedValue::texts(counts.iter().map(|(value, _)| &**value)));
        values.push(OwnedValue::texts(numbers.iter().map(String::as_bytes)));
        values.push(counts.first().map_or(OwnedValue::Null, |(_, count)| OwnedValue::Uint(*count)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use whalewatch_core::{Texts, Timestamp};

    use super::*;

    fn result<'a>(
        function: Function,
        max: usize,
        values: impl IntoIterator<Item = Value<'a>>,
    ) -> (Vec<OwnedValue>, bool) {
        let (mut state, mut scratch) = (State::new(function, max), Scratch::default());
        values.into_iter().for_each(|value| state.add(value, &mut scratch));
        let (mut values, estimate) = (Vec::new(), state.is_estimate());
        state.finish(&mut values);
        (values, estimate)
    }

    #[test]
    fn numbers_beyond_the_range_of_a_result_saturate() {
        let large = [Value::Uint(u64::MAX), Value::Uint(u64::MAX)];
        assert_eq!(result(Function::Sum, 16, large).0, [OwnedValue::Int(i64::MAX)]);
        assert_eq!(result(Function::Max, 16, large).0, [OwnedValue::Int(i64::MAX)]);
        let small = [Value::Int(i64::MIN), Value::Int(-1)];
        assert_eq!(result(Function::Sum, 16, small).0, [OwnedValue::Int(i64::MIN)]);
        assert_eq!(result(Function::Min, 16, []).0, [OwnedValue::Null]);
        assert_eq!(result(Function::Sum, 16, []).0, [OwnedValue::Int(0)]);
    }

    #[test]
    fn values_of_any_type_are_distinguished_and_shown_as_text() {
        let values = [
            Value::Text(b"1"),
            Value::Int(1),
            Value::Uint(1),
            Value::Bool(true),
            Value::Time(Timestamp(1)),
            Value::Texts(Texts(b"1\0")),
            Value::Texts(Texts(b"1\x002\0")),
        ];
        assert_eq!(result(Function::Distinct, 16, values).0, [OwnedValue::Uint(6)]);
        let (top, _) = result(Function::Top(2), 16, values);
        let texts = |list: &[&[u8]]| OwnedValue::texts(list.iter().copied());
        assert_eq!(top, [texts(&[b"1", b"1 2"]), texts(&[b"4", b"1"]), OwnedValue::Uint(4)]);
    }

    #[test]
    fn distinct_estimate_is_within_four_standard_errors() {
        for many in [300_u64, 5_000, 100_000] {
            let values = (0..many).chain(0..many).map(|n| Value::Uint(n * 7_919));
            let (got, estimate) = result(Function::Distinct, 256, values);
            let [OwnedValue::Uint(got)] = got[..] else { panic!("not a number") };
            // Four standard errors of 1.3 %.
            assert!(got.abs_diff(many) * 1000 <= many * 52, "{got} for {many}");
            assert!(estimate);
        }
    }

    #[test]
    fn top_finds_a_frequent_value_among_many_rare_ones() {
        let rare: Vec<_> = (0..20_000).map(|n| format!("/tmp/{n}")).collect();
        let values =
            rare.iter().flat_map(|text| [Value::Text(b"/hot"), Value::Text(text.as_bytes())]);
        let (got, estimate) = result(Function::Top(1), 16, values);
        assert_eq!(got[0], OwnedValue::texts([&b"/hot"[..]]));
        let OwnedValue::Uint(count) = got[2] else { panic!("not a number") };
        assert!((20_000 - 40_000 / 17..=20_000).contains(&count), "{count}");
        assert!(estimate);
    }

    #[test]
    fn top_cuts_long_texts() {
        let long = [b'a'; 2 * MAX_TEXT];
        let (got, _) = result(Function::Top(1), 16, [Value::Text(&long), Value::Text(&long[1..])]);
        assert_eq!(got[0], OwnedValue::texts([&long[..MAX_TEXT]]));
        assert_eq!(got[2], OwnedValue::Uint(2));
    }

    proptest! {
        #[test]
        fn results_match_a_simple_reference(values in prop::collection::vec(-40..40_i64, 0..200)) {
            let run = |function| result(function, 100, values.iter().map(|n| Value::Int(*n)));
            prop_assert_eq!(run(Function::Count).0, [OwnedValue::Uint(values.len() as u64)]);
            prop_assert_eq!(run(Function::Sum).0, [OwnedValue::Int(values.iter().sum())]);
            let int = |n: Option<&i64>| n.map_or(OwnedValue::Null, |n| OwnedValue::Int(*n));
            prop_assert_eq!(run(Function::Min).0, [int(values.iter().min())]);
            prop_assert_eq!(run(Function::Max).0, [int(values.iter().max())]);
            let distinct = values.iter().collect::<BTreeSet<_>>().len() as u64;
            prop_assert_eq!(run(Function::Distinct), (vec![OwnedValue::Uint(distinct)], false));
        }

        #[test]
        fn top_counts_are_never_too_high_and_within_the_error_bound(
            values in prop::collection::vec(0..60_u64, 0..400),
            max in 16..80_usize,
        ) {
            let mut exact = BTreeMap::new();
            for value in &values {
                *exact.entry(value.to_string().into_bytes()).or_insert(0_u64) += 1;
            }
            let numbers = values.iter().map(|n| Value::Uint(*n));
            let (got, estimate) = result(Function::Top(16), max, numbers);
            let (Value::Texts(shown), Value::Texts(counts)) = (got[0].get(), got[1].get()) else {
                panic!("not lists")
            };
            let error = if estimate { values.len() as u64 / (max as u64 + 1) } else { 0 };
            for (value, count) in shown.iter().zip(counts.iter()) {
                let count: u64 = String::from_utf8_lossy(count).parse().expect("a number");
                prop_assert!(count <= exact[value] && count + error >= exact[value]);
            }
            if !estimate {
                prop_assert_eq!(shown.iter().count(), exact.len().min(16));
            }
        }
    }
}
