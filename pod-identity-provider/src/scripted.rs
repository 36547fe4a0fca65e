//! A scripted source for tests, in virtual time.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_async::time::TimeSource;
use tokio::time::Instant;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A wall clock that follows tokio's clock and can be set.
#[derive(Debug, Clone)]
pub(crate) struct WallClock {
    start: Instant,
    offset_seconds: Arc<AtomicI64>,
}

impl WallClock {
    /// Sets the clock forward, or back if `seconds` is negative.
    pub(crate) fn advance(&self, seconds: i64) {
        self.offset_seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        let seconds = 1_800_000_000 + self.offset_seconds.load(Ordering::Relaxed);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap()) + self.start.elapsed()
    }
}

/// How the source reacts to a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behavior {
    /// Returns credentials with this lifetime.
    ExpireAfter(Duration),
    /// Returns credentials with this expiry.
    ExpireAt(SystemTime),
    /// Returns credentials without an expiry.
    NeverExpire,
    Fail(fn() -> CredentialsError),
    Panic,
    /// Never returns.
    Hang,
}

/// A source that records its calls.
#[derive(Debug, Clone)]
pub(crate) struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wall: WallClock,
    behavior: Mutex<Behavior>,
    /// The duration of a call.
    latency: Mutex<Duration>,
    call_times: Mutex<Vec<Instant>>,
    pending_calls: AtomicUsize,
}

/// Ends a pending call when dropped, also if the call is cancelled.
struct PendingCall<'a>(&'a AtomicUsize);

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn agent_down() -> CredentialsError {
    CredentialsError::provider_error("the agent is down")
}

impl Source {
    pub(crate) fn wall(&self) -> WallClock {
        self.0.wall.clone()
    }

    pub(crate) fn set_behavior(&self, behavior: Behavior) {
        *self.0.behavior.lock().unwrap() = behavior;
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        *self.0.latency.lock().unwrap() = latency;
    }

    pub(crate) fn call_times(&self) -> Vec<Instant> {
        self.0.call_times.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.call_times().len()
    }

    pub(crate) fn pending_calls(&self) -> usize {
        self.0.pending_calls.load(Ordering::Relaxed)
    }

    pub(crate) async fn call(&self) -> Result<Credentials, CredentialsError> {
        let number = {
            let mut call_times = self.0.call_times.lock().unwrap();
            call_times.push(Instant::now());
            call_times.len()
        };
        self.0.pending_calls.fetch_add(1, Ordering::Relaxed);
        let _pending = PendingCall(&self.0.pending_calls);
        let latency = *self.0.latency.lock().unwrap();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let behavior = *self.0.behavior.lock().unwrap();
        let end = match behavior {
            Behavior::ExpireAfter(life) => Some(self.0.wall.now() + life),
            Behavior::ExpireAt(end) => Some(end),
            Behavior::NeverExpire => None,
            Behavior::Fail(error) => return Err(error()),
            Behavior::Panic => panic!("the script panics"),
            Behavior::Hang => std::future::pending().await,
        };
        Ok(Credentials::new(
            format!("ASIA{number}"),
            "the secret key",
            Some("the session token".to_owned()),
            end,
            "test",
        ))
    }
}

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.call())
    }
}

/// Returns a source of credentials with this lifetime, and its clock.
pub(crate) fn source(life: Duration) -> (Source, WallClock) {
    let wall = WallClock { start: Instant::now(), offset_seconds: Arc::default() };
    let inner = Inner {
        wall: wall.clone(),
        behavior: Mutex::new(Behavior::ExpireAfter(life)),
        latency: Mutex::default(),
        call_times: Mutex::default(),
        pending_calls: AtomicUsize::new(0),
    };
    (Source(Arc::new(inner)), wall)
}

/// Yields until ready tasks have run and aborted tasks have ended.
pub(crate) async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}
