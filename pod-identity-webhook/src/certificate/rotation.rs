//! What is to be done next: from what the Secret and the webhook configuration say, and nothing else. So
//! whoever comes after a leader that died goes on where it stopped.
//!
//! ```text
//! make ─► publish ─► (wait) ─► settle ─► (wait) ─► trim ─► two thirds of a life ─► make
//! ```
//!
//! - **make**: a new generation is put into the Secret. It is not served, unless there is nothing else.
//! - **publish**: its authority is added to each `caBundle`. What stands there stays. Any replica does that,
//!   so that a `caBundle` which somebody has overwritten is mended at once.
//! - **settle**: the authority has stood there for the wait. API servers read configurations by watch, and have
//!   it by then. The Secret says so, and every replica serves the new certificate.
//! - **trim**: after another wait nobody serves what the Secret no longer holds; its authorities are taken out.
//!
//! Waits are counted by each replica's own monotonic clock, from when it has seen for itself how things stand.

use std::time::Duration;

use rustls_pki_types::CertificateDer;

/// How many generations are kept: the one that is served, the one before, and one to come or one more.
pub(super) const KEPT: usize = 3;

/// A certificate of an authority.
pub(super) type Authority = CertificateDer<'static>;

/// A generation, as far as rotation looks. Only one that can be served is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) authority: Authority,
    pub(super) settled: bool,
    /// Whether it is time for the next one.
    pub(super) due: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A new generation is to be put into the Secret.
    Make,
    /// Authorities of the Secret are missing in a `caBundle`.
    Publish,
    /// The newest generation is to be served by all.
    Settle,
    /// Authorities that are not of the Secret are to be taken out of each `caBundle`.
    Trim,
    /// Nothing.
    Rest,
}

/// What is to be done, `unchanged` having passed since things were first seen to stand as they do. The bundles
/// are those of all entries that are ours, generations are oldest first.
pub(super) fn next(
    generations: &[Standing],
    bundles: &[Vec<Authority>],
    unchanged: Duration,
    wait: Duration,
    leads: bool,
) -> Step {
    if !generations.is_empty() && bundles.iter().any(|bundle| !is_complete(bundle, generations)) {
        return Step::Publish;
    }
    let waited = unchanged >= wait && !bundles.is_empty();
    let foreign = |bundle: &Vec<Authority>| published(bundle, generations) != trimmed(bundle, generations);
    match generations.last() {
        _ if !leads => Step::Rest,
        None => Step::Make,
        Some(newest) if !newest.settled && waited => Step::Settle,
        Some(newest) if newest.settled && newest.due => Step::Make,
        Some(newest) if newest.settled && waited && bundles.iter().any(foreign) => Step::Trim,
        Some(_) => Step::Rest,
    }
}

fn is_complete(bundle: &[Authority], generations: &[Standing]) -> bool {
    generations.iter().all(|generation| bundle.contains(&generation.authority))
}

/// A `caBundle` with the authorities of the Secret: what is there stays.
pub(super) fn published(bundle: &[Authority], generations: &[Standing]) -> Vec<Authority> {
    let missing = generations.iter().map(|generation| &generation.authority);
    let missing = missing.filter(|authority| !bundle.contains(authority));
    bundle.iter().chain(missing).cloned().collect()
}

/// A `caBundle` with the authorities of the Secret and no others.
pub(super) fn trimmed(bundle: &[Authority], generations: &[Standing]) -> Vec<Authority> {
    let is_ours = |authority: &Authority| generations.iter().any(|one| one.authority == *authority);
    published(bundle, generations).into_iter().filter(is_ours).collect()
}

/// Which generation a replica serves that serves that of `current`, if any: the newest that is settled. Until
/// there is one it keeps what it has, though the Secret may be lost and begun anew; and takes the newest where
/// it has nothing.
pub(super) fn served<'a>(generations: &'a [Standing], current: Option<&Authority>) -> Option<&'a Authority> {
    let settled = generations.iter().rfind(|generation| generation.settled);
    let newest = || generations.last().filter(|_| current.is_none());
    settled.or_else(newest).map(|generation| &generation.authority)
}

/// Whether every API server takes the certificate of that authority: it is in each bundle, and settled. Where
/// the bundles hold nothing that the Secret does not know, this is the beginning, and nobody else could be asked
/// meanwhile; otherwise those others belong to replicas that still serve.
pub(super) fn is_taken(
    served: &Authority,
    generations: &[Standing],
    of_secret: &[Authority],
    bundles: &[Vec<Authority>],
) -> bool {
    let is_settled = || generations.iter().any(|one| one.settled && one.authority == *served);
    let is_beginning = || bundles.iter().flatten().all(|authority| of_secret.contains(authority));
    bundles.iter().all(|bundle| bundle.contains(served)) && (is_settled() || is_beginning())
}

/// Since when things stand as they do.
#[derive(Debug, Default)]
pub(super) struct Unchanged(Option<(Authority, bool, Duration)>);

impl Unchanged {
    /// How long the newest generation has stood as it does, in every bundle, at `now` of the monotonic clock.
    pub(super) fn look(
        &mut self,
        generations: &[Standing],
        bundles: &[Vec<Authority>],
        now: Duration,
    ) -> Duration {
        let complete = !bundles.is_empty() && bundles.iter().all(|bundle| is_complete(bundle, generations));
        let Some(newest) = generations.last().filter(|_| complete) else {
            self.0 = None;
            return Duration::ZERO;
        };
        let since = match &self.0 {
            Some((authority, settled, since))
                if *authority == newest.authority && *settled == newest.settled =>
            {
                *since
            }
            _ => now,
        };
        self.0 = Some((newest.authority.clone(), newest.settled, since));
        now.saturating_sub(since)
    }
}

#[cfg(test)]
mod tests;
