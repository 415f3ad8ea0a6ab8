//! What receivers answer.

use std::time::Duration;

use prost::Message;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver has it, but for so many records that it refused; and what it says.
    Accepted {
        /// How many records it refused.
        rejected: u64,
        /// What it says.
        message: String,
    },
    /// It is to be sent again.
    Again {
        /// Why.
        why: String,
        /// The pause that the receiver asks for.
        after: Option<Duration>,
    },
    /// It will never be taken.
    Refused(String),
}

/// `ExportLogsServiceResponse`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(crate) partial_success: Option<PartialSuccess>,
}

/// `ExportLogsPartialSuccess`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(crate) rejected_log_records: i64,
    #[prost(string, tag = "2")]
    pub(crate) error_message: String,
}

impl From<Response> for Outcome {
    fn from(response: Response) -> Self {
        let partial = response.partial_success.unwrap_or_default();
        let rejected = u64::try_from(partial.rejected_log_records).unwrap_or(0);
        Self::Accepted { rejected, message: partial.error_message }
    }
}
