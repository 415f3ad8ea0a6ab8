//! What a computation has come to so far.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use datasketches::hll::{HllSketch, HllType};
use rustc_hash::FxHashSet;
use whalewatch_core::{OwnedValue, Value};
use whalewatch_kit::fields::write_plain;
use whalewatch_kit::{Clock, keys};

use crate::compute::Function;

/// Two to this power are the registers of an estimate, one byte each: a standard error of 1.3 %.
const PRECISION: u8 = 12;

/// The longest text that `top` keeps: what is longer is cut.
pub(crate) const LONGEST: usize = 512;

/// Room for what is on the way from a value to a state.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    clock: Clock,
}

/// What a computation has come to for one group.
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
    /// Of nothing, with room for so many different values.
    pub(crate) fn new(function: Function, most: usize) -> Self {
        match function {
            Function::Count => Self::Count(0),
            Function::Sum => Self::Sum(0),
            Function::Min => Self::Min(None),
            Function::Max => Self::Max(None),
            Function::Distinct => Self::Distinct(Distinct::new(most)),
            Function::Top(count) => Self::Top(Top::new(count, most)),
        }
    }

    /// Takes in the value of one more event, which is not null.
    pub(crate) fn take(&mut self, value: Value<'_>, scratch: &mut Scratch) {
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
            // No number: such events were not there to be checked against.
            (Self::Sum(_) | Self::Min(_) | Self::Max(_), None) => {}
            (Self::Distinct(distinct), _) => {
                scratch.bytes.clear();
                keys::encode(&mut scratch.bytes, value);
                distinct.take(&scratch.bytes);
            }
            (Self::Top(top), _) => match value {
                Value::Text(text) => top.take(text),
                value => {
                    scratch.bytes.clear();
                    write_plain(&mut scratch.bytes, &mut scratch.clock, value);
                    top.take(&scratch.bytes);
                }
            },
        }
    }

    /// Whether the result is not exact.
    pub(crate) fn is_estimate(&self) -> bool {
        match self {
            Self::Distinct(distinct) => matches!(distinct.seen, Seen::Many(_)),
            Self::Top(top) => top.lowered > 0,
            _ => false,
        }
    }

    /// Gives the values of its fields.
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

/// How many different values there were: by hashes of 64 bits while they are few, then by a sketch
/// ([`HllSketch`]).
#[derive(Debug)]
pub(crate) struct Distinct {
    most: usize,
    seen: Seen,
}

#[derive(Debug)]
enum Seen {
    Few(FxHashSet<u64>),
    Many(Box<HllSketch>),
}

impl Distinct {
    fn new(most: usize) -> Self {
        Self { most, seen: Seen::Few(FxHashSet::default()) }
    }

    fn take(&mut self, value: &[u8]) {
        // One that gives the same for the same value in each run, so that replays do, too.
        let mut hasher = DefaultHasher::new();
        hasher.write(value);
        let hash = hasher.finish();
        match &mut self.seen {
            Seen::Many(sketch) => sketch.update(hash),
            Seen::Few(hashes) if hashes.len() < self.most || hashes.contains(&hash) => {
                hashes.insert(hash);
            }
            Seen::Few(hashes) => {
                // It fails only for a precision that there is not.
                let Ok(mut sketch) = HllSketch::new(PRECISION, HllType::Hll8) else { return };
                // In the order of a list, and not of a set: the estimate depends on it a little.
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

/// The most frequent values: all counted while they are few, then by the algorithm of Misra and
/// Gries. Where there is no room for a value, all counts are lowered by one, and those that come to
/// 0 go. So a count is never too high, and too low by at most the number of times that they were
/// lowered: at most one in `most + 1` events.
#[derive(Debug)]
pub(crate) struct Top {
    count: usize,
    most: usize,
    counts: HashMap<Box<[u8]>, u64>,
    /// How often all counts were lowered by one.
    lowered: u64,
}

impl Top {
    fn new(count: usize, most: usize) -> Self {
        Self { count, most, counts: HashMap::new(), lowered: 0 }
    }

    fn take(&mut self, value: &[u8]) {
        let value = &value[..value.len().min(LONGEST)];
        if let Some(count) = self.counts.get_mut(value) {
            *count += 1;
        } else if self.counts.len() < self.most {
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
        most: usize,
        values: impl IntoIterator<Item = Value<'a>>,
    ) -> (Vec<OwnedValue>, bool) {
        let (mut state, mut scratch) = (State::new(function, most), Scratch::default());
        values.into_iter().for_each(|value| state.take(value, &mut scratch));
        let (mut values, estimate) = (Vec::new(), state.is_estimate());
        state.finish(&mut values);
        (values, estimate)
    }

    #[test]
    fn numbers_too_large_for_the_result_stay_at_the_largest() {
        let large = [Value::Uint(u64::MAX), Value::Uint(u64::MAX)];
        assert_eq!(result(Function::Sum, 16, large).0, [OwnedValue::Int(i64::MAX)]);
        assert_eq!(result(Function::Max, 16, large).0, [OwnedValue::Int(i64::MAX)]);
        let small = [Value::Int(i64::MIN), Value::Int(-1)];
        assert_eq!(result(Function::Sum, 16, small).0, [OwnedValue::Int(i64::MIN)]);
        assert_eq!(result(Function::Min, 16, []).0, [OwnedValue::Null]);
        assert_eq!(result(Function::Sum, 16, []).0, [OwnedValue::Int(0)]);
    }

    #[test]
    fn values_of_any_type_are_told_apart_and_shown_as_text() {
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
    fn an_estimate_is_off_by_few_in_a_hundred() {
        for many in [300_u64, 5_000, 100_000] {
            let values = (0..many).chain(0..many).map(|n| Value::Uint(n * 7_919));
            let (got, estimate) = result(Function::Distinct, 256, values);
            let [OwnedValue::Uint(got)] = got[..] else { panic!("a number") };
            // Four standard errors of 1.3 %.
            assert!(got.abs_diff(many) * 1000 <= many * 52, "{got} for {many}");
            assert!(estimate);
        }
    }

    #[test]
    fn a_value_that_is_frequent_is_found_among_any_number_of_rare_ones() {
        let rare: Vec<_> = (0..20_000).map(|n| format!("/tmp/{n}")).collect();
        let values =
            rare.iter().flat_map(|text| [Value::Text(b"/hot"), Value::Text(text.as_bytes())]);
        let (got, estimate) = result(Function::Top(1), 16, values);
        assert_eq!(got[0], OwnedValue::texts([&b"/hot"[..]]));
        let OwnedValue::Uint(count) = got[2] else { panic!("a number") };
        assert!((20_000 - 40_000 / 17..=20_000).contains(&count), "{count}");
        assert!(estimate);
    }

    #[test]
    fn long_texts_are_cut() {
        let long = [b'a'; 2 * LONGEST];
        let (got, _) = result(Function::Top(1), 16, [Value::Text(&long), Value::Text(&long[1..])]);
        assert_eq!(got[0], OwnedValue::texts([&long[..LONGEST]]));
        assert_eq!(got[2], OwnedValue::Uint(2));
    }

    proptest! {
        #[test]
        fn results_are_those_of_a_simple_reference(values in prop::collection::vec(-40..40_i64, 0..200)) {
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
        fn counts_of_the_most_frequent_are_never_too_high_and_too_low_by_little(
            values in prop::collection::vec(0..60_u64, 0..400),
            most in 16..80_usize,
        ) {
            let mut exact = BTreeMap::new();
            for value in &values {
                *exact.entry(value.to_string().into_bytes()).or_insert(0_u64) += 1;
            }
            let (got, estimate) = result(Function::Top(16), most, values.iter().map(|n| Value::Uint(*n)));
            let (Value::Texts(shown), Value::Texts(counts)) = (got[0].get(), got[1].get()) else { panic!("lists") };
            let off = if estimate { values.len() as u64 / (most as u64 + 1) } else { 0 };
            for (value, count) in shown.iter().zip(counts.iter()) {
                let count: u64 = String::from_utf8_lossy(count).parse().expect("a number");
                prop_assert!(count <= exact[value] && count + off >= exact[value]);
            }
            if !estimate {
                prop_assert_eq!(shown.iter().count(), exact.len().min(16));
            }
        }
    }
}
