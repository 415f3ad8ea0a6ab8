//! The signals tracker: which process sends which signal to which process, and with what result.

mod event;
mod names;

use whalewatch_core::Problem;
use whalewatch_trackers_common::kinds::KIND_SIGNAL_SEND;
use whalewatch_trackers_common::signals::{SignalRecord, SignalsSettings};

pub use event::SignalEvent;

use crate::header::process;
use crate::options::tracker_options;
use crate::program::Attached;
use crate::ring::{Arena, Decode, DecodeError, read};
use crate::{Kernel, KernelTracker, LoadError, Program, Uses, object};

/// The kernel program of the signals tracker.
const PROGRAM: Program = Program {
    object: object!("signals"),
    tracepoints: &[("signal_send", "signal_generate")],
    iterator: None,
    members: &[SignalsSettings::MEMBERS],
    uses: Uses::NOTHING,
};

tracker_options! {
    /// Options of the signals tracker.
    SignalsOptions { ring_kib: 1024, results: true,
        /// Signals to watch, by name: `SIGKILL`, …; `SIGRT` for all real-time signals. Empty: all
        /// signals.
        signals: Vec<String> = Vec::new(),
        /// Also report signals that the kernel itself sends: SIGCHLD when a child exits, timers,
        /// faults.
        kernel: bool = false,
    }
}

/// Watches the signals that processes send.
#[derive(Clone, Copy, Debug)]
pub struct SignalsTracker;

impl KernelTracker for SignalsTracker {
    const ABOUT: &'static str = "signals that processes send to each other";
    const COST: &'static str = "about 0.7 µs per signal";
    const PROGRAM: &'static Program = &PROGRAM;
    type Options = SignalsOptions;
    type Settings = SignalsSettings;
    type Decoder = SignalsDecoder;

    fn settings(options: &SignalsOptions, kernel: &Kernel) -> Result<SignalsSettings, LoadError> {
        let bits = options.signals.iter().filter_map(|name| names::bit(name));
        let signals = bits.reduce(|all, bit| all | bit).unwrap_or(u64::MAX);
        let [code]: [u32; 1] = kernel.offsets(SignalsSettings::MEMBERS)?;
        let kernel = u32::from(options.kernel);
        Ok(SignalsSettings { signals, kernel, code, ..SignalsSettings::UNSET })
    }

    fn decoder(_: &SignalsOptions, _: &mut Attached) -> Result<SignalsDecoder, LoadError> {
        Ok(SignalsDecoder)
    }

    fn check(options: &SignalsOptions) -> Vec<Problem> {
        let mut problems = Vec::new();
        for name in options.signals.iter().filter(|name| names::bit(name).is_none()) {
            let known: Vec<&str> = names::all().collect();
            let message = format!("{name:?} is not a signal");
            let hint = format!("write one of {}", known.join(", "));
            problems.push(Problem::new("signals", message).hint(hint));
        }
        problems
    }
}

/// Decodes the signals tracker's records.
#[derive(Clone, Copy, Debug)]
pub struct SignalsDecoder;

impl Decode for SignalsDecoder {
    type Event = SignalEvent;

    fn decode(&mut self, record: &[u8], arena: &mut Arena) -> Result<SignalEvent, DecodeError> {
        let record: SignalRecord = read(record)?;
        if record.process.record.kind != KIND_SIGNAL_SEND {
            return Err(DecodeError);
        }
        Ok(SignalEvent {
            time: arena.time(record.process.record.time),
            sender: process(&record.process),
            target: process(&record.target),
            number: record.number,
            code: record.code,
            result: record.result,
            group: record.group != 0,
            from_kernel: record.from_kernel != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whalewatch_core::Event as _;
    use whalewatch_trackers_common::{ProcessHeader, RecordHeader};

    use super::*;
    use crate::testing::{decode_and_read, records};

    fn header(kind: u16, pid: u32) -> ProcessHeader {
        let record = RecordHeader { kind, ..RecordHeader::default() };
        ProcessHeader { record, pid, ..ProcessHeader::default() }
    }

    fn decode(record: &[u8]) -> Result<SignalEvent, DecodeError> {
        SignalsDecoder.decode(record, &mut Arena::default())
    }

    #[test]
    fn a_signal_has_a_sender_and_a_target() {
        let record = SignalRecord {
            process: header(KIND_SIGNAL_SEND, 7),
            target: header(KIND_SIGNAL_SEND, 8),
            number: 9,
            result: 2,
            ..SignalRecord::default()
        };
        let event = decode(bytemuck::bytes_of(&record)).unwrap();
        assert_eq!(event.process().unwrap().pid, 7);
        assert_eq!(event.target().unwrap().pid, 8);
        assert_eq!((event.result(), event.kind()), ("already_pending", "signal.send"));
        let short = &bytemuck::bytes_of(&record)[..215];
        assert_eq!(decode(short), Err(DecodeError));
    }

    #[test]
    fn an_unknown_signal_is_reported_with_the_known_ones() {
        let options =
            SignalsOptions { signals: vec!["KILL".into(), "SIGFOO".into()], ..Default::default() };
        let problems = SignalsTracker::check(&options);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].message, "\"SIGFOO\" is not a signal");
        assert!(problems[0].hint.as_ref().unwrap().contains("SIGKILL, "));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(record in records(95..98, 400)) {
            decode_and_read(SignalsDecoder, &record);
        }
    }
}
