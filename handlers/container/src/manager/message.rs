//! Messages to the manager, and the form in which a recording keeps those from outside.

use serde::{Deserialize, Serialize};

use crate::proc::{Membership, ProcEntry};
use crate::protocol::Reported;

/// A message to the container manager from its timers, its reader of `/proc` and the runtimes'
/// clients. Only the manager creates one.
#[derive(Debug)]
pub struct Message(pub(crate) Payload);

#[derive(Debug)]
pub(crate) enum Payload {
    /// The manager was built: announce the containers that the first scan found.
    Start,
    /// A runtime's client reports something.
    Report(Reported),
    /// Processes that were running at start, read from `/proc`.
    Running(Vec<RunningProcess>),
    /// Timer: the hold of some events may be over.
    Release,
    /// Timer: the grace period of something may be over.
    Sweep,
    /// Timer: a listing that came too soon after the last may be requested now.
    Refresh,
}

/// A running process, and where its cgroups say it is.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RunningProcess {
    pub(crate) entry: ProcEntry,
    pub(crate) membership: Membership,
}

/// The payloads that a recording keeps: those that carry facts from outside. Timers are not
/// recorded; a replay's clock fires them again.
#[derive(Deserialize, Serialize)]
enum Recorded<R, P> {
    Report(R),
    Running(P),
}

/// Returns the text that a recording keeps of a message; `None` for a timer.
pub(super) fn record(payload: &Payload) -> Option<String> {
    let recorded: Recorded<&Reported, &Vec<RunningProcess>> = match payload {
        Payload::Report(report) => Recorded::Report(report),
        Payload::Running(running) => Recorded::Running(running),
        Payload::Start | Payload::Release | Payload::Sweep | Payload::Refresh => return None,
    };
    serde_json::to_string(&recorded).ok()
}

/// Rebuilds the payload from the text that [`record`] returned.
pub(super) fn recall(recorded: &str) -> Option<Payload> {
    Some(match serde_json::from_str(recorded).ok()? {
        Recorded::Report(report) => Payload::Report(report),
        Recorded::Running(running) => Payload::Running(running),
    })
}

#[cfg(test)]
mod tests {
    use whalewatch_core::{Container, Runtime, Status};

    use super::*;
    use crate::options::RuntimeClient;
    use crate::protocol::Report;

    #[test]
    fn recorded_message_is_recalled_unchanged() {
        let container = Container {
            name: Some("web".into()),
            labels: [("tier".to_owned(), "front".to_owned())].into(),
            status: Status::Running,
            ..Container::bare("ab12", Runtime::Docker)
        };
        let report = Report::Container(Box::new(container));
        let report = Reported { from: RuntimeClient::Docker, report };
        let text = record(&Payload::Report(report.clone())).unwrap();
        assert!(matches!(recall(&text), Some(Payload::Report(again)) if again == report), "{text}");
        assert!(record(&Payload::Sweep).is_none(), "timers are not recorded");
        assert!(recall("{}").is_none());
    }
}
