//! The default name resolver.

use aws_smithy_runtime::client::dns::TokioDnsResolver;
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use tokio::runtime::Handle;

use crate::error::Error;

/// The system's resolver, on the runtime's threads for blocking work. Returns an error without a runtime, where the SDK's
/// resolver panics.
#[derive(Debug)]
pub(crate) struct SystemResolver;

impl ResolveDns for SystemResolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        if Handle::try_current().is_err() {
            return DnsFuture::ready(Err(ResolveDnsError::new(Error::no_runtime())));
        }
        DnsFuture::new(async move { TokioDnsResolver::new().resolve_dns(name).await })
    }
}
