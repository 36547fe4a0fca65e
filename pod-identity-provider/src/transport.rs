//! How requests are sent, and how long they may take.

use std::time::Duration;

use aws_smithy_async::rt::sleep::SharedAsyncSleep;
use aws_smithy_runtime_api::client::dns::SharedDnsResolver;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::clock::Clock;

/// What a source asks with.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    /// None: the SDK's own client.
    pub(crate) http_client: Option<SharedHttpClient>,
    pub(crate) dns: SharedDnsResolver,
    pub(crate) sleep: SharedAsyncSleep,
    pub(crate) clock: Clock,
    /// How long one attempt may take.
    pub(crate) attempt: Duration,
    /// How long all attempts of a fetch may take.
    pub(crate) deadline: Duration,
}
