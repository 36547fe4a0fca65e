//! The rules of rotation: the next step follows from the Secret and the published bundles alone.
//!
//! ```text
//! make ─► publish ─► (wait) ─► settle ─► (wait) ─► trim ─► two thirds of a lifetime ─► make
//! ```
//!
//! - **make** adds a new generation to the Secret. It is not served yet, unless there is no other.
//! - **publish** adds its authority to every bundle, and keeps the authorities that are there. The same step repairs a
//!   bundle that another program has overwritten.
//! - **settle** marks the generation as settled in the Secret, when its authority has been published for the wait.
//!   Clients read bundles by watch and have the authority by then. Every replica now serves the new certificate.
//! - **trim** removes authorities that the Secret no longer holds from every bundle, after another wait. No replica
//!   serves a certificate of theirs any more.
//!
//! There is no leader: every replica takes every step. Each write is a compare-and-swap at the version that was read, so
//! of the replicas that take the same step one succeeds and the others get a conflict. Two rules make that enough:
//!
//! - A replica measures waits with its own monotonic clock, from when it has itself seen the state. The clocks of
//!   replicas are never compared.
//! - A replica reads the bundles **before** the Secret. A trim is then computed from a Secret that is at least as new as
//!   the bundles. In the other order, a replica that was slow between the two reads would take an authority that
//!   another replica has published meanwhile for a foreign one, and would remove it.

use std::time::Duration;

use rustls_pki_types::CertificateDer;

/// Maximum number of generations in the Secret: the served one, the one before, and the next one.
pub(super) const KEPT: usize = 3;

/// The certificate of an authority.
pub type Authority = CertificateDer<'static>;

/// The state of a generation that can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GenerationStatus {
    pub(super) authority: Authority,
    pub(super) settled: bool,
    /// Whether the next generation is due.
    pub(super) due: bool,
}

/// A step of the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Add a new generation to the Secret.
    Make,
    /// Add the authorities of the Secret to every bundle.
    Publish,
    /// Mark the newest generation as settled.
    Settle,
    /// Remove the authorities that are not in the Secret from every bundle.
    Trim,
}

/// Returns the step that is due, if any. `generations` are oldest first. `unchanged` is the time since this replica first
/// saw the newest generation in its present state, with its authority in every bundle ([`Unchanged::observe`]).
pub(super) fn next(
    generations: &[GenerationStatus],
    bundles: &[Vec<Authority>],
    unchanged: Duration,
    wait: Duration,
) -> Option<Step> {
    let Some(newest) = generations.last() else { return Some(Step::Make) };
    if bundles.iter().any(|bundle| !is_complete(bundle, generations)) {
        return Some(Step::Publish);
    }
    let waited = unchanged >= wait && !bundles.is_empty();
    let is_foreign = |authority: &Authority| generations.iter().all(|one| one.authority != *authority);
    match newest {
        GenerationStatus { settled: false, .. } => waited.then_some(Step::Settle),
        GenerationStatus { due: true, .. } => Some(Step::Make),
        _ => (waited && bundles.iter().flatten().any(is_foreign)).then_some(Step::Trim),
    }
}

fn is_complete(bundle: &[Authority], generations: &[GenerationStatus]) -> bool {
    generations.iter().all(|generation| bundle.contains(&generation.authority))
}

/// Returns a bundle with the authorities of the Secret added.
pub(super) fn published(bundle: &[Authority], generations: &[GenerationStatus]) -> Vec<Authority> {
    let missing = generations.iter().map(|generation| &generation.authority);
    let missing = missing.filter(|authority| !bundle.contains(authority));
    bundle.iter().chain(missing).cloned().collect()
}

/// Returns a bundle with the authorities of the Secret and no others.
pub(super) fn trimmed(bundle: &[Authority], generations: &[GenerationStatus]) -> Vec<Authority> {
    let in_secret = |authority: &Authority| generations.iter().any(|one| one.authority == *authority);
    published(bundle, generations).into_iter().filter(in_secret).collect()
}

/// Returns the authority whose certificate a replica serves, if there is one: the newest that is settled. If none is
/// settled, a replica keeps the certificate of `current`, although the Secret may be lost. A replica without a
/// certificate takes the newest.
pub(super) fn served<'a>(
    generations: &'a [GenerationStatus],
    current: Option<&Authority>,
) -> Option<&'a Authority> {
    let settled = generations.iter().rfind(|generation| generation.settled);
    let newest = || generations.last().filter(|_| current.is_none());
    settled.or_else(newest).map(|generation| &generation.authority)
}

/// Returns whether every client trusts the served authority: it is in every bundle, and settled.
///
/// At the first start nothing is settled, and the bundles hold no authority from outside the Secret: no other replica
/// could answer meanwhile, so this one does. Foreign authorities belong to replicas that still serve.
pub(super) fn is_trusted(
    served: &Authority,
    generations: &[GenerationStatus],
    of_secret: &[Authority],
    bundles: &[Vec<Authority>],
) -> bool {
    let is_settled = || generations.iter().any(|one| one.settled && one.authority == *served);
    let is_first_start = || bundles.iter().flatten().all(|authority| of_secret.contains(authority));
    bundles.iter().all(|bundle| bundle.contains(served)) && (is_settled() || is_first_start())
}

/// Measures for how long the newest generation has been in its present state.
#[derive(Debug, Default)]
pub(super) struct Unchanged(Option<(Authority, bool, Duration)>);

impl Unchanged {
    /// Returns the time since the newest generation was first seen in this state with the authority in every bundle. `now`
    /// is the monotonic clock.
    pub(super) fn observe(
        &mut self,
        generations: &[GenerationStatus],
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
