//! The identity cache of a provider, for the clients of an AWS SDK.

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::identity::{
    IdentityCachePartition, IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityCache,
    SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_types::config_bag::ConfigBag;

use crate::cell::CredentialCell;

/// Serves one provider's identities from its cell, and passes every other resolver to the SDK's own cache.
///
/// A configuration of the SDK wraps the provider in a resolver with a new cache partition, so the partition of the
/// provider's own resolver is known only when a client uses it. The SDK shows a cache nothing of the wrapped provider but
/// its `Debug` text. So the cache compares that text once with the text of the provider itself, and from then on
/// partitions only. A chain or another wrapper prints its own name around the provider's, and is not served from the cell.
#[derive(Debug)]
pub(crate) struct ProviderIdentityCache {
    cell: Arc<CredentialCell>,
    /// The text of a resolver that is the provider itself.
    printed: String,
    /// The partition of the resolver that was recognised first.
    own: OnceLock<IdentityCachePartition>,
    others: SharedIdentityCache,
}

impl ProviderIdentityCache {
    /// A cache for the provider of this cell. The provider's `Debug` text must be its own and must not change.
    pub(crate) fn new(cell: Arc<CredentialCell>, provider: impl ProvideCredentials + 'static) -> Self {
        let resolver = SharedIdentityResolver::new(SharedCredentialsProvider::new(provider));
        Self {
            cell,
            printed: printed(&resolver),
            own: OnceLock::new(),
            others: IdentityCache::lazy().build(),
        }
    }

    /// Whether the resolver is the provider itself.
    fn is_own(&self, resolver: &SharedIdentityResolver) -> bool {
        let partition = resolver.cache_partition();
        match self.own.get() {
            Some(own) => *own == partition,
            None => printed(resolver) == self.printed && *self.own.get_or_init(|| partition) == partition,
        }
    }
}

/// Returns the `Debug` text of a resolver without its partition.
fn printed(resolver: &SharedIdentityResolver) -> String {
    format!("{resolver:?}").replace(&format!("{:?}", resolver.cache_partition()), "")
}

impl ResolveCachedIdentity for ProviderIdentityCache {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        runtime_components: &'a RuntimeComponents,
        config_bag: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        if !self.is_own(&resolver) {
            return self.others.resolve_cached_identity(resolver, runtime_components, config_bag);
        }
        if let Some(identity) = self.cell.fresh_identity() {
            return IdentityFuture::ready(Ok(identity));
        }
        // The provider itself caches, renews and waits.
        IdentityFuture::new(async move { resolver.resolve_identity(runtime_components, config_bag).await })
    }

    fn validate_base_client_config(
        &self,
        runtime_components: &RuntimeComponentsBuilder,
        config_bag: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.others.validate_base_client_config(runtime_components, config_bag)
    }

    fn validate_final_config(
        &self,
        runtime_components: &RuntimeComponents,
        config_bag: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.others.validate_final_config(runtime_components, config_bag)
    }
}
