//! The SDK's identity cache, on the cells of this crate's providers.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityCachePartition, IdentityFuture, ResolveCachedIdentity, ResolveIdentity,
    SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_types::config_bag::ConfigBag;

use crate::cell::{Gate, Need, Origin, Reader};

/// How many partitions are known at most, as in the SDK's own cache (aws-smithy-runtime,
/// `LazyCacheBuilder::max_partitions`). A client has a handful: one for each way to sign a request, while an operation
/// that is given a provider of its own is given a cache of its own too. Those beyond are served more slowly.
const MOST_PARTITIONS: usize = 64;
/// The serial number of no credentials.
const NONE: u64 = u64::MAX;

/// How long the SDK's cache waits for a provider: what it comes to by itself for a client that repeats its requests
/// (aws-smithy-runtime, `pessimistic_load_timeout`). For one that does not it would be 6 s, less than a fetch may take.
const LOAD: Duration = Duration::from_secs(22);

/// An identity cache for the clients of an AWS SDK, as their configuration takes it.
///
/// A client asks its cache at each request. The SDK's own takes locks for that; this one reads the credentials of a
/// [`PodIdentityCredentialsProvider`](crate::PodIdentityCredentialsProvider) without a lock, and leaves their
/// renewal to it. What comes from other providers, the SDK's own lazy cache keeps: it waits 22 s for them, as it does by
/// default for a client that repeats its requests.
pub fn identity_cache() -> SharedIdentityCache {
    SharedIdentityCache::new(CellCache::default())
}

/// A cache is a client's, and is asked for whatever resolver a request has. It knows resolvers by their partitions:
/// the SDK gives each wrapper of a provider one of its own.
///
/// A resolver is asked until it gives an identity that was taken from a cell, and is asked again when that cell holds
/// another: it may be somebody's chain of providers, of which ours is one. One request asks, and is not served what the
/// cell holds unless the resolver fails; the others are, meanwhile: it is what the provider holds that the resolver gave
/// the credentials of last.
#[derive(Debug)]
struct CellCache {
    /// Filled from the front and never emptied: a partition is found without a write.
    known: [OnceLock<KnownPartition>; MOST_PARTITIONS],
    others: SharedIdentityCache,
}

impl Default for CellCache {
    fn default() -> Self {
        let known = [const { OnceLock::new() }; MOST_PARTITIONS];
        Self { known, others: IdentityCache::lazy().load_timeout(LOAD).build() }
    }
}

/// Where the identities of a partition's resolver are taken from.
#[derive(Debug)]
struct KnownPartition {
    partition: IdentityCachePartition,
    reader: Arc<Reader>,
    /// Of the credentials that it gave last; [`NONE`] where they were not of this cell.
    serial: AtomicU64,
    /// The requests that ask the resolver while what it gave holds.
    gate: Gate,
}

impl KnownPartition {
    fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
    }
}

impl CellCache {
    fn known(&self, partition: IdentityCachePartition) -> Option<&KnownPartition> {
        self.known.iter().map_while(OnceLock::get).find(|known| known.partition == partition)
    }

    /// Remembers where an identity is to be found that the resolver of a partition has given. Of one that is not of a
    /// cell, or of another than before, it remembers that: there is nothing for it to serve.
    fn learn(&self, partition: IdentityCachePartition, identity: &Identity) {
        let of_cell = Origin::of_identity(identity);
        if let Some(known) = self.known(partition) {
            let of_cell = of_cell.filter(|(reader, _)| Arc::ptr_eq(reader, &known.reader));
            known.serial.store(of_cell.map_or(NONE, |(_, serial)| serial), Ordering::Relaxed);
            return;
        }
        let Some((reader, serial)) = of_cell else { return };
        let new = KnownPartition { partition, reader, serial: AtomicU64::new(serial), gate: Gate::default() };
        // What finds its place taken goes on to the next; a second one of a partition is not found any more.
        let _ = self.known.iter().try_fold(new, |new, place| place.set(new).err());
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
        let known = self.known(partition).filter(|known| known.serial() != NONE);
        let Some(known) = known else {
            return IdentityFuture::new(async move {
                let resolver = SharedIdentityResolver::new(NotOurs(resolver));
                let kept =
                    self.others.resolve_cached_identity(resolver, runtime_components, config_bag).await?;
                let identity = kept.data().map(|Ours(identity)| identity.clone()).unwrap_or(kept);
                self.learn(partition, &identity);
                Ok(identity)
            });
        };
        if let Some(at_hand) = known.reader.identity() {
            let asks = match at_hand.need {
                Need::Nothing if at_hand.serial == known.serial() => false,
                Need::Nothing | Need::Renewal => known.gate.lets_through(at_hand.now),
                Need::Fetch { .. } => true,
            };
            if !asks {
                return IdentityFuture::ready(Ok(at_hand.identity));
            }
        }
        IdentityFuture::new(async move {
            // Our provider keeps its credentials itself, and has one fetch for all who wait.
            match resolver.resolve_identity(runtime_components, config_bag).await {
                Ok(identity) => {
                    self.learn(partition, &identity);
                    Ok(identity)
                }
                // Of a chain, another provider than ours may fail.
                Err(error) => known.reader.identity().map(|at_hand| at_hand.identity).ok_or(error),
            }
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
            Ok(match Origin::of_identity(&identity) {
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
