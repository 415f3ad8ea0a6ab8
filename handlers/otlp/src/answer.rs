//! The answers of receivers.

use std::time::Duration;

use prost::Message;

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver has accepted the request, except for some records.
    Accepted {
        /// The number of records that it rejected.
        rejected: u64,
        /// The message of the receiver; may be empty.
        message: String,
    },
    /// The request failed and must be sent again.
    Retry {
        /// The reason.
        why: String,
        /// The pause that the receiver requests.
        after: Option<Duration>,
    },
    /// The receiver will never accept the request, for this reason.
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
