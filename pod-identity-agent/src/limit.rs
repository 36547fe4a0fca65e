//! Budgets of calls to EKS Auth, so that one pod's nonsense delays no other pod, and a restart of the
//! agent is over before anybody's patience.
//!
//! A token that nobody has accepted yet takes a credit of its peer for as long as its call lasts, and
//! two seconds more where it is refused. So a pod that sends junk gets four calls a second, and the
//! other 56 of the 64 calls that may be under way are for the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pod_identity_core::cache::{Effect, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::exchange::ExchangeError;

/// The budgets, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// Calls under way, all together.
    pub calls: usize,
    /// Calls under way for tokens that nobody has accepted.
    pub unaccepted_calls: usize,
    /// Renewals under way: whoever waits goes before what can wait.
    pub renewals: usize,
    /// What each peer has.
    pub remote: Share,
    /// What all addresses of this machine have together: pods in the host's network.
    pub local: Share,
    /// How long a refused token keeps its credit.
    pub hold: Duration,
}

/// A peer's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Calls under way for tokens that nobody has accepted.
    pub credits: usize,
    /// Calls that may wait for one.
    pub waiting: usize,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            calls: 64,
            unaccepted_calls: 48,
            renewals: 8,
            remote: Share { credits: 8, waiting: 256 },
            local: Share { credits: 32, waiting: 1024 },
            hold: Duration::from_secs(2),
        }
    }
}

/// All budgets.
#[derive(Debug)]
pub(crate) struct Limits {
    budgets: Budgets,
    calls: Arc<Semaphore>,
    unaccepted: Arc<Semaphore>,
    renewals: Arc<Semaphore>,
    peers: Mutex<HashMap<Option<IpAddr>, Arc<Peer>>>,
}

#[derive(Debug)]
struct Peer {
    credits: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// A place in the queue; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Place {
    hold: Duration,
    calls: Arc<Semaphore>,
    /// For a token that nobody has accepted.
    unaccepted: Option<(Arc<Semaphore>, Arc<Semaphore>, OwnedSemaphorePermit)>,
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    _permit: Option<OwnedSemaphorePermit>,
    unaccepted: Option<OwnedSemaphorePermit>,
    credit: Option<OwnedSemaphorePermit>,
    hold: Duration,
    _place: Option<OwnedSemaphorePermit>,
}

impl Limits {
    pub(crate) fn new(budgets: Budgets) -> Self {
        Self {
            budgets,
            calls: Arc::new(Semaphore::new(budgets.calls)),
            unaccepted: Arc::new(Semaphore::new(budgets.unaccepted_calls)),
            renewals: Arc::new(Semaphore::new(budgets.renewals)),
            peers: Mutex::default(),
        }
    }

    /// A place for a call. `None` where too many of that peer wait already.
    pub(crate) fn place(&self, peer: IpAddr, accepted: bool) -> Option<Place> {
        let (calls, hold) = (self.calls.clone(), self.budgets.hold);
        if accepted {
            return Some(Place { hold, calls, unaccepted: None });
        }
        let peer = self.peer(peer);
        let place = peer.places.clone().try_acquire_owned().ok()?;
        Some(Place { hold, calls, unaccepted: Some((peer.credits.clone(), self.unaccepted.clone(), place)) })
    }

    /// The right to one renewal.
    pub(crate) async fn renewal(&self) -> Option<OwnedSemaphorePermit> {
        self.renewals.clone().acquire_owned().await.ok()
    }

    /// Forgets the peers that have nothing under way.
    pub(crate) fn sweep(&self) {
        self.lock().retain(|_, peer| Arc::strong_count(&peer.credits) > 1);
    }

    fn peer(&self, address: IpAddr) -> Arc<Peer> {
        let address = address.to_canonical();
        let Budgets { remote, local, .. } = self.budgets;
        let (key, share) = if is_local(address) { (None, local) } else { (Some(address), remote) };
        let peer = || Peer {
            credits: Arc::new(Semaphore::new(share.credits)),
            places: Arc::new(Semaphore::new(share.credits + share.waiting)),
        };
        self.lock().entry(key).or_insert_with(|| Arc::new(peer())).clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<IpAddr>, Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an address is this machine's: a hostNetwork pod's request may come from any of them. Only
/// such an address can be bound, and binding it sends nothing.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || std::net::UdpSocket::bind((address, 0)).is_ok()
}

impl Place {
    /// Waits for the turn: the peer's credit first, so that a peer without one takes nobody's call.
    /// The semaphores are fair and never closed.
    pub(crate) async fn call(self) -> Call {
        let mut call = Call { _permit: None, unaccepted: None, credit: None, hold: self.hold, _place: None };
        if let Some((credits, unaccepted, place)) = self.unaccepted {
            call._place = Some(place);
            call.credit = credits.acquire_owned().await.ok();
            call.unaccepted = unaccepted.acquire_owned().await.ok();
        }
        call._permit = self.calls.acquire_owned().await.ok();
        call
    }
}

impl Call {
    /// Ends a call. Acceptance, or that EKS Auth could not be asked, gives the credit back at once; a
    /// refusal of the token only after a while.
    pub(crate) fn end(self, error: Option<&ExchangeError>) {
        let refused = error.is_some_and(|error| error.effect() == Effect::RefusesToken);
        if let (true, Some(credit)) = (refused, self.credit) {
            tokio::spawn(async move {
                tokio::time::sleep(self.hold).await;
                drop(credit);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUNK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn refusal() -> ExchangeError {
        ExchangeError::Token(pod_identity_core::token::TokenError::NotPodBound)
    }

    #[tokio::test(start_paused = true)]
    async fn junk_of_one_pod_gets_four_calls_a_second_and_delays_no_other() {
        let limits = Arc::new(Limits::new(Budgets::default()));
        let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for _ in 0..264 {
            let (place, calls) = (limits.place(JUNK, false).unwrap(), calls.clone());
            tokio::spawn(async move {
                let call = place.call().await;
                calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                call.end(Some(&refusal()));
            });
        }
        assert!(limits.place(JUNK, false).is_none(), "the 265th has no place");
        tokio::time::sleep(Duration::from_secs(10)).await;
        let made = calls.load(std::sync::atomic::Ordering::SeqCst);
        assert!((32..=44).contains(&made), "{made} calls in 10 s");

        let place = limits.place(OTHER, false).unwrap();
        let mine = tokio::time::timeout(Duration::from_millis(1), place.call()).await;
        assert!(mine.is_ok(), "another pod had to wait");
    }

    #[tokio::test(start_paused = true)]
    async fn two_hundred_and_fifty_pods_are_served_in_a_third_of_a_second() {
        let limits = Arc::new(Limits::new(Budgets::default()));
        let start = tokio::time::Instant::now();
        let pods: Vec<_> = (0..250u8)
            .map(|pod| {
                let place = limits.place(IpAddr::from([10, 0, 0, pod]), false).unwrap();
                tokio::spawn(async move {
                    let call = place.call().await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    call.end(None);
                })
            })
            .collect();
        for pod in pods {
            pod.await.unwrap();
        }
        assert!(start.elapsed() <= Duration::from_millis(300), "{:?}", start.elapsed());
    }
}
