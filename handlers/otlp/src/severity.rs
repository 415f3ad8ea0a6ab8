//! Severities in OpenTelemetry's numbers.

use whalewatch_core::Value;

/// A severity as a number and a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Severity<'a> {
    /// `SeverityNumber`: 1 to 24.
    pub(crate) number: u8,
    /// The word in the event.
    pub(crate) text: &'a [u8],
}

/// The severity of events without one.
pub(crate) const INFO: Severity<'_> = Severity { number: 9, text: b"INFO" };

/// The words of detection rules, of syslog and of programs. Those of syslog have the numbers of
/// OpenTelemetry's data model.
const WORDS: &[(&str, u8)] = &[
    ("trace", 1),
    ("debug", 5),
    ("info", 9),
    ("informational", 9),
    ("low", 10),
    ("notice", 10),
    ("medium", 13),
    ("warn", 13),
    ("warning", 13),
    ("error", 17),
    ("high", 17),
    ("critical", 18),
    ("alert", 19),
    ("emergency", 21),
    ("fatal", 21),
];

impl<'a> Severity<'a> {
    /// Returns the severity for the value of a field. An unknown word gets the number of `INFO`,
    /// and is kept as the text.
    pub(crate) fn of(value: Value<'a>) -> Self {
        let Value::Text(text) = value else { return INFO };
        let known = WORDS.iter().find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(text));
        Self { number: known.map_or(INFO.number, |(_, number)| *number), text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_get_their_numbers_and_unknown_ones_are_kept() {
        for (word, number) in [("high", 17), ("CRITICAL", 18), ("Low", 10), ("odd", 9), ("", 9)] {
            let severity = Severity::of(Value::Text(word.as_bytes()));
            assert_eq!(severity, Severity { number, text: word.as_bytes() }, "{word}");
        }
        assert_eq!(Severity::of(Value::Null), INFO);
    }
}
