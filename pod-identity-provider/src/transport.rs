//! How requests are sent, and how long they may take.

use std::time::Duration;

use aws_smithy_runtime_api::client::dns::SharedDnsResolver;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::error::Error;
use crate::timer::Timer;

/// What a source asks with.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    /// None: the SDK's own client.
    pub(crate) http_client: Option<SharedHttpClient>,
    pub(crate) dns: SharedDnsResolver,
    pub(crate) timer: Timer,
    pub(crate) clock: Clock,
    /// How long one attempt may take.
    pub(crate) attempt: Duration,
    /// How long all attempts of a fetch may take.
    pub(crate) deadline: Duration,
}

impl Transport {
    /// Whether requests can be sent from here: timers may need a runtime, and the SDK's own client takes sockets and
    /// tasks from the caller's. Both would panic without one.
    ///
    /// # Errors
    /// [`Error::NoRuntime`], where they cannot.
    pub(crate) fn check_runtime(&self) -> Result<(), Error> {
        let has_client = self.http_client.is_some() || Handle::try_current().is_ok();
        if has_client && self.timer.is_usable() { Ok(()) } else { Err(Error::NoRuntime) }
    }
}
