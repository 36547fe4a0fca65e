//! The SDK's identity cache, on the cells of this crate's providers.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityCachePartition, IdentityFuture, ResolveCachedIdentity, ResolveIdentity,
    SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_types::config_bag::ConfigBag;

use crate::cell::{Home, Reader};

/// How many partitions are known at most, as in the SDK's own cache (aws-smithy-runtime,
/// `LazyCacheBuilder::max_partitions`): a client has a handful, and more each time an operation is given a provider of
/// its own.
const MOST_PARTITIONS: usize = 64;

/// An identity cache for the clients of an AWS SDK, as their configuration takes it.
///
/// A client asks its cache at each request. The SDK's own takes locks for that; this one reads the credentials of a
/// [`PodIdentityCredentialsProvider`](crate::PodIdentityCredentialsProvider) with two atomic loads, and leaves their
/// renewal to it. What comes from other providers, the SDK's own lazy cache keeps, as if this one were not there.
pub fn identity_cache() -> SharedIdentityCache {
    SharedIdentityCache::new(CellCache::default())
}

/// A cache is a client's, and is asked for whatever resolver a request has. It knows resolvers by their partitions:
/// the SDK gives each wrapper of a provider one of its own.
///
/// A resolver is asked until it gives an identity that was taken from a cell, and is asked again when that cell holds
/// another: it may be somebody's chain of providers, of which ours is one. So what is served is always what that very
/// resolver gave last.
#[derive(Debug)]
struct CellCache {
    known: ArcSwap<Vec<Known>>,
    others: SharedIdentityCache,
}

impl Default for CellCache {
    fn default() -> Self {
        Self { known: ArcSwap::default(), others: IdentityCache::lazy().build() }
    }
}

/// The last identity that a partition's resolver gave.
#[derive(Debug, Clone)]
struct Known {
    partition: IdentityCachePartition,
    reader: Arc<Reader>,
    serial: u64,
}

impl CellCache {
    /// Remembers where an identity is to be found that the resolver of a partition has given; one that is not of a
    /// cell is not remembered, nor is any longer what was given before.
    fn learn(&self, partition: IdentityCachePartition, identity: &Identity) {
        let of_cell = Home::of_identity(identity).map(|(reader, serial)| Known { partition, reader, serial });
        let known = self.known.load();
        let before = known.iter().find(|known| known.partition == partition);
        if before.map(|known| known.serial) == of_cell.as_ref().map(|known| known.serial) {
            return;
        }
        self.known.rcu(|known| {
            let others = known.iter().filter(|known| known.partition != partition);
            let too_many = others.clone().count().saturating_sub(MOST_PARTITIONS - 1);
            others.skip(too_many).cloned().chain(of_cell.clone()).collect::<Vec<_>>()
        });
    }
}

impl ResolveCachedIdentity for CellCache {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        runtime_components: &'a RuntimeComponents,
        config_bag: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let partition = resolver.cache_partition();
        let known = self.known.load();
        let known = known.iter().find(|known| known.partition == partition);
        if let Some(identity) = known.and_then(|known| known.reader.identity(known.serial)) {
            return IdentityFuture::ready(Ok(identity));
        }
        let is_known = known.is_some();
        IdentityFuture::new(async move {
            let identity = if is_known {
                // Our provider keeps its credentials itself, and has one fetch for all who wait.
                resolver.resolve_identity(runtime_components, config_bag).await?
            } else {
                let resolver = SharedIdentityResolver::new(NotOurs(resolver));
                let kept =
                    self.others.resolve_cached_identity(resolver, runtime_components, config_bag).await?;
                kept.data().map(|Ours(identity)| identity.clone()).unwrap_or(kept)
            };
            self.learn(partition, &identity);
            Ok(identity)
        })
    }

    fn validate_base_client_config(
        &self,
        runtime_components: &RuntimeComponentsBuilder,
        cfg: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.others.validate_base_client_config(runtime_components, cfg)
    }

    fn validate_final_config(
        &self,
        runtime_components: &RuntimeComponents,
        cfg: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.others.validate_final_config(runtime_components, cfg)
    }
}

/// A resolver whose identities the SDK's cache keeps unless they are of a cell: those are wrapped in one that has ended.
/// Else it would go on with what has long been renewed.
#[derive(Debug)]
struct NotOurs(SharedIdentityResolver);

#[derive(Debug)]
struct Ours(Identity);

impl ResolveIdentity for NotOurs {
    fn resolve_identity<'a>(
        &'a self,
        runtime_components: &'a RuntimeComponents,
        config_bag: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        IdentityFuture::new(async move {
            let identity = self.0.resolve_identity(runtime_components, config_bag).await?;
            Ok(match Home::of_identity(&identity) {
                Some(_) => Identity::new(Ours(identity), Some(SystemTime::UNIX_EPOCH)),
                None => identity,
            })
        })
    }

    fn fallback_on_interrupt(&self) -> Option<Identity> {
        self.0.fallback_on_interrupt()
    }

    fn cache_partition(&self) -> Option<IdentityCachePartition> {
        Some(self.0.cache_partition())
    }
}
