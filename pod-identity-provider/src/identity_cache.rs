//! The SDK's identity cache, on the cells of this crate's providers.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityCachePartition, IdentityFuture, ResolveCachedIdentity, SharedIdentityCache,
    SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_types::config_bag::ConfigBag;

use crate::cell::{Cell, Home};

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
    SharedIdentityCache::new(CellCache { cells: ArcSwap::default(), others: IdentityCache::lazy().build() })
}

/// A cache is a client's, and is asked for whatever resolver a request has. By its partition a cell is found again:
/// the SDK gives each wrapper of a provider one of its own.
#[derive(Debug)]
struct CellCache {
    cells: ArcSwap<Vec<(IdentityCachePartition, Arc<Cell>)>>,
    others: SharedIdentityCache,
}

impl CellCache {
    /// Remembers where the identities of a partition come from, if they come from a cell.
    fn learn(&self, partition: IdentityCachePartition, identity: &Identity) {
        let Some(cell) = Home::of_identity(identity) else { return };
        self.cells.rcu(|cells| {
            let known = cells.iter().filter(|(known, _)| *known != partition);
            let oldest = cells.len().saturating_sub(MOST_PARTITIONS - 1);
            known.skip(oldest).cloned().chain([(partition, cell.clone())]).collect::<Vec<_>>()
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
        let cells = self.cells.load();
        if let Some((_, cell)) = cells.iter().find(|(known, _)| *known == partition) {
            if let Some(identity) = cell.identity_at_hand() {
                return IdentityFuture::ready(Ok(identity));
            }
            let cell = cell.clone();
            return IdentityFuture::new(async move { Ok(cell.identity().await?) });
        }
        IdentityFuture::new(async move {
            let identity =
                self.others.resolve_cached_identity(resolver, runtime_components, config_bag).await?;
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
