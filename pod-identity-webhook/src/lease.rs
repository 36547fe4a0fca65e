//! Which replica acts where only one should: leader election by a Lease (`coordination.k8s.io/v1`).
//!
//! The rules are those of client-go's `leaderelection` package:
//!
//! - A write is a compare-and-swap by `resourceVersion`: of two who want the Lease one gets it.
//! - Clocks of machines are never compared. Who does not lead counts, on its own monotonic clock, since when
//!   the Lease has not changed; the times in it are for people.
//! - Who leads stops in time: [`LEADS`] after it *sent* its last write that succeeded. Nobody else takes the
//!   Lease before [`DURATION`] after having *seen* that write, which is later.
//!
//! A monotonic clock stands still while its machine is suspended. Who wakes up may believe for a moment that
//! it leads still. So what a leader writes has to be a compare-and-swap of its own.

mod elect;

use std::time::{Duration, SystemTime};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use pod_identity_core::time::Now;
use uuid::Uuid;

pub use elect::{Election, Leadership};

/// How long a Lease that does not change belongs to its holder: `leaseDurationSeconds`. Client-go's default.
pub const DURATION: Duration = Duration::from_secs(15);

/// How long who holds the Lease acts on a write that succeeded: client-go's default of `renewDeadline`. The
/// 5 s until [`DURATION`] are for clocks that run at different speeds, and for what is under way at the end.
pub const LEADS: Duration = Duration::from_secs(10);

/// How often the Lease is looked at, and renewed by its holder: twice before it would stop to lead.
pub const PERIOD: Duration = Duration::from_secs(5);

/// The longest duration of somebody else's that is waited for. A Lease is written by who may write it, and one
/// of years would end every election.
const LONGEST: Duration = Duration::from_secs(120);

/// An identity for an election: the pod's name, for people, and chance. So each start of a process has another
/// one, and nobody holds what a dead process of the same pod has held.
pub fn identity(pod: Option<&str>) -> String {
    format!("{}_{}", pod.unwrap_or_default(), Uuid::new_v4())
}

/// One who wants to lead, and what it knows of the Lease.
#[derive(Debug)]
struct Candidate {
    identity: String,
    /// The version of the Lease that was seen last, and when it was first seen.
    seen: Option<(String, Duration)>,
    leads_until: Option<Duration>,
}

impl Candidate {
    fn new(identity: String) -> Self {
        Self { identity, seen: None, leads_until: None }
    }

    /// The Lease as it is to be written, where it is to be written: created where none was found, otherwise
    /// replaced, at the version that was found.
    fn look(&mut self, found: Option<Lease>, now: Now) -> Option<Lease> {
        let Some(mut lease) = found else {
            self.seen = None;
            return Some(Lease { spec: Some(self.taken(None, now)), ..Lease::default() });
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => now.monotonic,
        };
        self.seen = Some((version, since));
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let spec = if holder == self.identity {
            LeaseSpec { renew_time: micro_time(now.wall), ..spec }
        } else {
            self.leads_until = None;
            let unchanged = now.monotonic.saturating_sub(since);
            if !holder.is_empty() && unchanged < duration(&spec) {
                return None;
            }
            self.taken(Some(&spec), now)
        };
        lease.spec = Some(spec);
        Some(lease)
    }

    /// A write that had been sent then has succeeded.
    fn written(&mut self, sent: Duration) {
        self.leads_until = Some(sent.saturating_add(LEADS));
    }

    /// The Lease as it is to be written so that others need not wait, where this one holds it.
    fn release(&mut self, found: Lease) -> Option<Lease> {
        self.leads_until = None;
        let spec = found.spec.clone().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))?;
        Some(Lease { spec: Some(LeaseSpec { holder_identity: Some(String::new()), ..spec }), ..found })
    }

    fn taken(&self, before: Option<&LeaseSpec>, now: Now) -> LeaseSpec {
        let transitions = |spec: &LeaseSpec| spec.lease_transitions.unwrap_or_default().saturating_add(1);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: micro_time(now.wall),
            renew_time: micro_time(now.wall),
            lease_transitions: Some(before.map_or(0, transitions)),
            ..LeaseSpec::default()
        }
    }
}

/// How long its holder may keep it without a change, as the holder said itself.
fn duration(spec: &LeaseSpec) -> Duration {
    let said = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    said.map_or(DURATION, Duration::from_secs).min(LONGEST)
}

fn micro_time(wall: SystemTime) -> Option<MicroTime> {
    Timestamp::try_from(wall).ok().map(MicroTime)
}

#[cfg(test)]
mod tests;
