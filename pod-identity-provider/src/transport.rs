//! The HTTP client of a source, with its resolver, timer, clock and time limits.

use std::time::Duration;

use aws_smithy_runtime_api::client::dns::SharedDnsResolver;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::error::Error;
use crate::timer::Timer;

/// HTTP client, resolver, timer, clock and time limits.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    /// `None` for the SDK's own client.
    pub(crate) http_client: Option<SharedHttpClient>,
    pub(crate) dns: SharedDnsResolver,
    pub(crate) timer: Timer,
    pub(crate) clock: Clock,
    /// The time limit of one attempt.
    pub(crate) attempt_timeout: Duration,
    /// The time limit of all attempts of one fetch.
    pub(crate) deadline: Duration,
}

impl Transport {
    /// Checks for a tokio runtime if the HTTP client or the timer needs one. Both panic without it.
    ///
    /// # Errors
    /// [`Error::Runtime`] if a runtime is needed and missing.
    pub(crate) fn check_runtime(&self) -> Result<(), Error> {
        let has_client = self.http_client.is_some() || Handle::try_current().is_ok();
        if has_client && self.timer.is_usable() { Ok(()) } else { Err(Error::no_runtime()) }
    }
}
