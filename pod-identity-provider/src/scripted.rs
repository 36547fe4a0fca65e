//! A source for tests that follows a script, in virtual time.

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

/// A wall clock that runs with tokio's clock and can be set.
#[derive(Debug, Clone)]
pub(crate) struct Wall {
    start: Instant,
    set_by_seconds: Arc<AtomicI64>,
}

impl Wall {
    pub(crate) fn set(&self, seconds: i64) {
        self.set_by_seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl TimeSource for Wall {
    fn now(&self) -> SystemTime {
        let seconds = 1_800_000_000 + self.set_by_seconds.load(Ordering::Relaxed);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap()) + self.start.elapsed()
    }
}

/// The source's reaction to a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// Credentials with that life.
    Lasting(Duration),
    /// Credentials with that expiry.
    Until(SystemTime),
    WithoutEnd,
    Failure(fn() -> CredentialsError),
    Panic,
    /// No answer, ever.
    Silence,
}

/// A source that records its calls.
#[derive(Debug, Clone)]
pub(crate) struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wall: Wall,
    answer: Mutex<Answer>,
    /// The time of an answer.
    takes: Mutex<Duration>,
    /// The times of the calls.
    asked: Mutex<Vec<Instant>>,
    /// The number of calls without an answer yet.
    open: AtomicUsize,
}

/// Counts a call as answered or dropped.
struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn down() -> CredentialsError {
    CredentialsError::provider_error("the agent is down")
}

impl Source {
    pub(crate) fn wall(&self) -> Wall {
        self.0.wall.clone()
    }

    pub(crate) fn answers(&self, answer: Answer) {
        *self.0.answer.lock().unwrap() = answer;
    }

    pub(crate) fn takes(&self, time: Duration) {
        *self.0.takes.lock().unwrap() = time;
    }

    pub(crate) fn asked(&self) -> Vec<Instant> {
        self.0.asked.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.asked().len()
    }

    pub(crate) fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    pub(crate) async fn answer(&self) -> Result<Credentials, CredentialsError> {
        let number = {
            let mut asked = self.0.asked.lock().unwrap();
            asked.push(Instant::now());
            asked.len()
        };
        self.0.open.fetch_add(1, Ordering::Relaxed);
        let _open = Open(&self.0.open);
        let takes = *self.0.takes.lock().unwrap();
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        let answer = *self.0.answer.lock().unwrap();
        let end = match answer {
            Answer::Lasting(life) => Some(self.0.wall.now() + life),
            Answer::Until(end) => Some(end),
            Answer::WithoutEnd => None,
            Answer::Failure(error) => return Err(error()),
            Answer::Panic => panic!("of the script"),
            Answer::Silence => std::future::pending().await,
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
        future::ProvideCredentials::new(self.answer())
    }
}

/// Returns a source of credentials with that life, and its clock.
pub(crate) fn source(life: Duration) -> (Source, Wall) {
    let wall = Wall { start: Instant::now(), set_by_seconds: Arc::default() };
    let inner = Inner {
        wall: wall.clone(),
        answer: Mutex::new(Answer::Lasting(life)),
        takes: Mutex::default(),
        asked: Mutex::default(),
        open: AtomicUsize::new(0),
    };
    (Source(Arc::new(inner)), wall)
}

/// Lets ready tasks run and aborted tasks end.
pub(crate) async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}
