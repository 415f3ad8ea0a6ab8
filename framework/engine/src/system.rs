//! Builds what a plan asks for, and runs it until it ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{Instant, timeout_at};
use whalewatch_core::OpenError;

use crate::actors::Report;
use crate::live::Live;
use crate::plan::Plan;
use crate::recording::Recorder;
use crate::stats::Totals;

/// A command for a running system.
#[derive(Debug)]
pub enum Control {
    /// Take in nothing new, deliver what is on its way, stop.
    Stop,
    /// Stop at once, without delivering what is on its way.
    Abort,
    /// Run another plan from now on.
    Reload(Reload),
}

/// Another plan for a running system. The parts that both plans have go on untouched, and no event
/// is lost.
pub struct Reload {
    plan: Arc<Plan>,
    answer: flume::Sender<Result<(), String>>,
}

impl Reload {
    /// A request to run `plan`. The receiver yields the result; an error says why the old plan goes
    /// on.
    pub fn new(plan: impl Into<Arc<Plan>>) -> (Self, flume::Receiver<Result<(), String>>) {
        let (answer, answered) = flume::bounded(1);
        (Self { plan: plan.into(), answer }, answered)
    }

    fn answer(&self, result: Result<(), String>) {
        self.answer.try_send(result).ok(); // The caller may not wait for the answer.
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The run was stopped, its time was over, or its sources ended. Everything was delivered.
    Done,
    /// The reader of the output is gone.
    Closed,
    /// The run was stopped at once.
    Aborted,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A tracker could not be opened.
    #[error("tracker \"{name}\" cannot start: {source}")]
    Open {
        /// The name of the tracker.
        name: String,
        /// Why, and how to fix it.
        source: OpenError,
    },
    /// A handler could not be built.
    #[error("\"{name}\" cannot start: {message}")]
    Build {
        /// The name of the handler.
        name: String,
        /// Why, and how to fix it.
        message: String,
    },
    /// A tracker or handler failed for good. Everything else was delivered.
    #[error("\"{name}\" failed: {message}")]
    Failed {
        /// The name of the tracker or handler.
        name: String,
        /// Why.
        message: String,
        /// The totals of the run.
        totals: Box<Totals>,
    },
}

/// Runs a plan on the current thread.
pub struct System {
    host_name: Arc<str>,
    duration: Option<Duration>,
    recorder: Option<Recorder>,
    control: flume::Receiver<Control>,
    controller: flume::Sender<Control>,
}

impl System {
    /// A system that runs on the host called `host_name`.
    pub fn new(host_name: impl Into<Arc<str>>) -> Self {
        let (controller, control) = flume::bounded(16);
        Self { host_name: host_name.into(), duration: None, recorder: None, control, controller }
    }

    /// Stops the run after `duration`, counted from when every tracker is live.
    #[must_use]
    pub fn duration(mut self, duration: Option<Duration>) -> Self {
        self.duration = duration;
        self
    }

    /// Records everything that a [replay](crate::Replay) needs.
    #[must_use]
    pub fn record(mut self, recorder: Recorder) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// Returns where other threads send [`Control`] commands.
    pub fn controller(&self) -> flume::Sender<Control> {
        self.controller.clone()
    }

    /// Builds and runs `plan`. `watching` is called once, when every tracker is live.
    ///
    /// # Errors
    /// If a part cannot be built, or fails for good while it runs.
    pub fn run(
        self,
        plan: impl Into<Arc<Plan>>,
        watching: impl FnOnce(),
    ) -> Result<(End, Totals), RunError> {
        let plan = plan.into();
        actix::System::new().block_on(async {
            let mut live = Live::new(Arc::clone(&self.host_name), self.recorder);
            live.apply(plan).await?;
            watching();
            let deadline = self.duration.map(|duration| Instant::now() + duration);
            run(live, &self.control, deadline).await
        })
    }
}

/// Waits until all actors have ended, and carries out commands meanwhile.
async fn run(
    mut live: Live,
    control: &flume::Receiver<Control>,
    mut deadline: Option<Instant>,
) -> Result<(End, Totals), RunError> {
    let mut end = End::Done;
    let mut failed = None;
    let mut stopping = false;
    while live.runs() {
        match next(&mut live, control, deadline).await {
            Next::Report(Report::Ended { .. } | Report::Built { .. }) => continue,
            Next::Report(Report::Closed) => end = End::Closed,
            Next::Report(Report::Fatal { name, message }) => {
                failed.get_or_insert((name, message));
            }
            Next::Deadline => deadline = None,
            Next::Control(Control::Stop) => {}
            Next::Control(Control::Abort) => return Ok((End::Aborted, live.counters().totals())),
            Next::Control(Control::Reload(reload)) if stopping => {
                reload.answer(Err(String::from("the run is stopping")));
            }
            Next::Control(Control::Reload(reload)) => match live.apply(reload.plan.clone()).await {
                Err(error @ RunError::Failed { .. }) => {
                    let message = error.to_string();
                    reload.answer(Err(message.clone()));
                    failed.get_or_insert(("reload".into(), message));
                }
                result => {
                    reload.answer(result.map_err(|error| error.to_string()));
                    continue;
                }
            },
        }
        stopping = true;
        live.stop();
    }
    let totals = live.counters().totals();
    match failed {
        None => Ok((end, totals)),
        Some((name, message)) => {
            let (name, totals) = (name.to_string(), Box::new(totals));
            Err(RunError::Failed { name, message, totals })
        }
    }
}

enum Next {
    Report(Report),
    Control(Control),
    Deadline,
}

/// Waits for the next thing that happens. The channels stay open as long as the system runs.
async fn next(
    live: &mut Live,
    control: &flume::Receiver<Control>,
    deadline: Option<Instant>,
) -> Next {
    let report = async { Next::Report(live.report().await) };
    let control =
        async { control.recv_async().await.map_or(Next::Control(Control::Stop), Next::Control) };
    let either = async {
        match select(std::pin::pin!(report), std::pin::pin!(control)).await {
            Either::Left((next, _)) | Either::Right((next, _)) => next,
        }
    };
    match deadline {
        None => either.await,
        Some(deadline) => timeout_at(deadline, either).await.unwrap_or(Next::Deadline),
    }
}
