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

/// Serves one provider's identities from its cell. Passes every other resolver to the SDK's own cache.
///
/// The cache must recognise the provider's resolver. An SDK configuration wraps the provider in a resolver with a new cache
/// partition, which is therefore unknown until a client's first request. The SDK exposes only the `Debug` text of the
/// wrapped provider. So the cache compares the text once, and only the partition after that. A chain or another wrapper has
/// another `Debug` text, and is not served from the cell.
#[derive(Debug)]
pub(crate) struct ProviderIdentityCache {
    cell: Arc<CredentialCell>,
    /// The `Debug` text of the provider's own resolver.
    debug_text: String,
    /// The partition of the first recognised resolver.
    partition: OnceLock<IdentityCachePartition>,
    sdk_cache: SharedIdentityCache,
}

impl ProviderIdentityCache {
    /// Returns a cache for the provider of this cell. The provider's `Debug` text must be unique and must not change.
    pub(crate) fn new(cell: Arc<CredentialCell>, provider: impl ProvideCredentials + 'static) -> Self {
        let resolver = SharedIdentityResolver::new(SharedCredentialsProvider::new(provider));
        Self {
            cell,
            debug_text: debug_text(&resolver),
            partition: OnceLock::new(),
            sdk_cache: IdentityCache::lazy().build(),
        }
    }

    /// Returns whether the resolver is the provider itself.
    fn is_own(&self, resolver: &SharedIdentityResolver) -> bool {
        let partition = resolver.cache_partition();
        match self.partition.get() {
            Some(own) => *own == partition,
            None => {
                debug_text(resolver) == self.debug_text
                    && *self.partition.get_or_init(|| partition) == partition
            }
        }
    }
}

/// Returns the `Debug` text of a resolver without its partition.
fn debug_text(resolver: &SharedIdentityResolver) -> String {
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
            return self.sdk_cache.resolve_cached_identity(resolver, runtime_components, config_bag);
        }
        if let Some(identity) = self.cell.fresh_identity() {
            return IdentityFuture::ready(Ok(identity));
        }
        // The provider has its own cache, so the SDK's cache is not needed.
        IdentityFuture::new(async move { resolver.resolve_identity(runtime_components, config_bag).await })
    }

    fn validate_base_client_config(
        &self,
        runtime_components: &RuntimeComponentsBuilder,
        config_bag: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.sdk_cache.validate_base_client_config(runtime_components, config_bag)
    }

    fn validate_final_config(
        &self,
        runtime_components: &RuntimeComponents,
        config_bag: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.sdk_cache.validate_final_config(runtime_components, config_bag)
    }
}
