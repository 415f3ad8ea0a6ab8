//! Formats times. The calendar date is computed once a second; within a second only the fraction
//! changes.

use jiff::tz::Offset;
use whalewatch_core::Timestamp;

/// Formats times, and keeps the text of the last second.
#[derive(Clone, Debug)]
pub struct Clock {
    second: u64,
    /// `2026-11-23T13:46:20`.
    text: [u8; 19],
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Creates a clock at the start of 1970.
    pub fn new() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00" }
    }

    /// Writes RFC 3339 in UTC with nanoseconds: `2026-11-23T13:46:20.171234567Z`.
    pub fn rfc3339(&mut self, out: &mut Vec<u8>, time: Timestamp) {
        self.set_second(time);
        out.extend_from_slice(&self.text);
        push_fraction::<9>(out, time.as_nanos() % 1_000_000_000);
        out.push(b'Z');
    }

    /// Writes the time of day in UTC with milliseconds: `13:46:20.171`.
    pub fn time_of_day(&mut self, out: &mut Vec<u8>, time: Timestamp) {
        self.set_second(time);
        out.extend_from_slice(&self.text[11..]);
        push_fraction::<3>(out, time.as_nanos() / 1_000_000 % 1_000);
    }

    fn set_second(&mut self, time: Timestamp) {
        let second = time.as_nanos() / 1_000_000_000;
        if second == self.second {
            return;
        }
        let at = jiff::Timestamp::from_second(second as i64).unwrap_or_default();
        let at = Offset::UTC.to_datetime(at);
        let (date, clock) = (at.date(), at.time());
        // Timestamps in nanoseconds reach to the year 2554, so each part has a fixed number of
        // digits.
        write_digits(&mut self.text[0..4], date.year() as u64);
        write_digits(&mut self.text[5..7], date.month() as u64);
        write_digits(&mut self.text[8..10], date.day() as u64);
        write_digits(&mut self.text[11..13], clock.hour() as u64);
        write_digits(&mut self.text[14..16], clock.minute() as u64);
        write_digits(&mut self.text[17..19], clock.second() as u64);
        self.second = second;
    }
}

fn push_fraction<const DIGITS: usize>(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; DIGITS];
    write_digits(&mut digits, number);
    out.push(b'.');
    out.extend_from_slice(&digits);
}

/// Fills `digits` with the last digits of `number`.
fn write_digits(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_in_any_order() {
        let mut clock = Clock::new();
        let mut shown = |nanos| {
            let mut out = Vec::new();
            clock.rfc3339(&mut out, Timestamp(nanos));
            out.push(b' ');
            clock.time_of_day(&mut out, Timestamp(nanos));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(0), "1970-01-01T00:00:00.000000000Z 00:00:00.000");
        assert_eq!(shown(1_795_441_580_171_234_567), "2026-11-23T13:46:20.171234567Z 13:46:20.171");
        assert_eq!(shown(1_795_441_580_000_000_001), "2026-11-23T13:46:20.000000001Z 13:46:20.000");
        assert_eq!(shown(1_795_441_581_999_999_999), "2026-11-23T13:46:21.999999999Z 13:46:21.999");
        assert_eq!(shown(1_709_164_800_000_000_000), "2024-02-29T00:00:00.000000000Z 00:00:00.000");
        assert_eq!(shown(u64::MAX), "2554-07-21T23:34:33.709551615Z 23:34:33.709");
        assert_eq!(shown(0), "1970-01-01T00:00:00.000000000Z 00:00:00.000");
    }
}
