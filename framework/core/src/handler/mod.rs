//! Handlers: what becomes of events.
//!
//! A filter implements [`Handler`] and nothing else. What only some handlers need is in separate
//! traits, which a handler names in its [`Declaration`]:
//!
//! | trait | for a handler that |
//! |---|---|
//! | [`Observe`] | needs the events of a tracker, whatever the chains name |
//! | [`Lifecycle`] | joins chains while it runs, or has something to close at the very end |
//! | [`Replay`] | hears from the outside world and must act the same in a replay |
//!
//! [`Hosted`] calls a handler, without actors and without I/O: the engine, replays, test benches
//! and benchmarks are thin drivers around it.

mod context;
mod declaration;
mod hosted;
mod setup;

use std::error::Error;

use crate::batch::Batch;
use crate::field::Schema;
use crate::options::{Options, Problem};

pub use context::{ChainContext, ChainId, Context};
pub use declaration::{Accepts, Declaration, EarlyWork, OnFailure, Properties};
pub use hosted::{Failure, Hosted, panic_message};
pub use setup::{Mailbox, Setup};

/// The message type of a handler that has no messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

/// Takes batches and passes them on, changed or not.
///
/// A handler gets its name in the configuration where it is registered. The engine runs each
/// handler on one thread and never calls it twice at once. A handler must not block; one that has
/// to, such as a slow output, declares itself [blocking](Declaration::blocking) and gets its own
/// thread.
///
/// The first four items are required. The others have defaults that do nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "does not implement `Handler`",
    note = "implement `whalewatch_core::Handler` for it; `whalewatch new handler NAME` writes a \
            crate to start from"
)]
pub trait Handler: Sized + Send + 'static {
    /// What the handler does, in one line.
    const ABOUT: &'static str;
    // The compiler quotes the next two lines with their comments when a bound is not met.
    /// The options of the handler's table in the configuration.
    type Options: Options; // a struct with #[derive(Clone, Deserialize, Serialize, JsonSchema)]
    /// The messages that timers and helper threads send to the handler; [`Never`] if it has none.
    type Message: Send + 'static; // comes from other threads: Arc instead of Rc

    /// What the engine must know before it builds the handler: whether it is shared, ends chains,
    /// blocks, and so on. By default, a handler in the middle of one chain.
    const DECLARATION: Declaration<Self> = Declaration::new();

    /// Checks what the types of the options cannot express. Touches nothing else.
    ///
    /// `input` has the schemas of the events that reach the handler. It is empty where they are not
    /// known.
    fn check(options: &Self::Options, input: &[Schema]) -> Vec<Problem> {
        let _ = (options, input);
        Vec::new()
    }

    /// Builds the handler, on the thread where it will run.
    ///
    /// # Errors
    /// If it cannot be built. The error says how to fix that.
    fn build(options: &Self::Options, setup: &Setup<Self::Message>) -> Result<Self, BuildError>;

    /// Takes a batch of the chain [`ChainContext::chain`]. [`ChainContext::emit`] passes on what
    /// the next handler should get.
    ///
    /// # Errors
    /// See [`HandlerError`].
    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, Self::Message>,
    ) -> Result<(), HandlerError>;

    /// Takes a message from a timer or a helper thread.
    ///
    /// # Errors
    /// See [`HandlerError`].
    fn message(
        &mut self,
        message: Self::Message,
        cx: &mut Context<'_, Self::Message>,
    ) -> Result<(), HandlerError> {
        drop(message);
        let _ = cx;
        Ok(())
    }

    /// Emits or writes out what is buffered for a chain. Called when no batch is waiting.
    ///
    /// # Errors
    /// See [`HandlerError`].
    fn flush(&mut self, cx: &mut ChainContext<'_, Self::Message>) -> Result<(), HandlerError> {
        let _ = cx;
        Ok(())
    }

    /// The chain has ended. Emit anything still held for it; [`Handler::flush`] is called next.
    ///
    /// # Errors
    /// See [`HandlerError`].
    fn end(&mut self, cx: &mut ChainContext<'_, Self::Message>) -> Result<(), HandlerError> {
        let _ = cx;
        Ok(())
    }
}

/// A handler that needs the events of certain trackers, whatever the chains name.
///
/// [`Declaration::observes`] lists the trackers. The engine attaches each of them once.
pub trait Observe: Handler {
    /// Takes a batch of a tracker that the handler observes. Each batch arrives here before any
    /// chain brings it to [`Handler::handle`].
    ///
    /// # Errors
    /// See [`HandlerError`].
    fn observe(
        &mut self,
        batch: &Batch,
        cx: &mut Context<'_, Self::Message>,
    ) -> Result<(), HandlerError>;
}

/// A handler that joins chains while it runs, or has something to close at the very end.
///
/// A reload can end the chains of a shared handler and put the handler into others.
/// [`Declaration::lifecycle`] announces the trait.
pub trait Lifecycle: Handler {
    /// A reload has put the handler into the chain [`ChainContext::chain`]. The chains that the
    /// handler is in from the start are in [`Setup::chains`].
    ///
    /// # Errors
    /// See [`HandlerError`].
    fn begin(&mut self, cx: &mut ChainContext<'_, Self::Message>) -> Result<(), HandlerError> {
        let _ = cx;
        Ok(())
    }

    /// All chains have ended. Finish pending writes and close what is open; what is emitted now
    /// goes nowhere. This is the last call.
    ///
    /// # Errors
    /// See [`HandlerError`]. The engine logs the error; nothing else follows from it.
    fn finish(&mut self, cx: &mut Context<'_, Self::Message>) -> Result<(), HandlerError> {
        let _ = cx;
        Ok(())
    }
}

/// A handler that hears from the outside world and must act the same in a replay.
///
/// A recording keeps the messages that helper threads sent; a replay delivers them again at the
/// time when they came. [`Declaration::replays`] announces the trait. What a handler asks by
/// itself goes through [`Setup::outside`].
pub trait Replay: Handler {
    /// Returns what a recording should keep of a message: what came from outside and cannot be had
    /// again. `None` for every other message, such as those of timers.
    fn record(message: &Self::Message) -> Option<String>;

    /// Returns the message that [`Replay::record`] turned into `recorded`; `None` if it is not one.
    fn recall(recorded: &str) -> Option<Self::Message>;
}

/// A handler could not be built.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(pub String);

/// A call of a handler failed.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The reader of the output is gone (a closed pipe). The run ends without an error.
    #[error("the reader of the output has gone")]
    Closed,
    /// The handler cannot go on. [`Declaration::on_failure`] decides what follows. The engine
    /// counts as errors the events that the handler took and neither passed on nor counted.
    #[error("{message}")]
    Failed {
        /// What failed.
        message: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}
