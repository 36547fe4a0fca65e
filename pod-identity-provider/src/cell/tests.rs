//! Credential cells in virtual time, with a scripted source.

mod clocks;
mod outage;
mod renewal;
mod runtimes;
mod sharing;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource as _};
use tokio::time::Instant;

use super::{CredentialCell, Refresh};
use crate::clock::Clock;
use crate::error::Error;
use crate::scripted::{Answer, HOUR, MINUTE, SECOND, Source, down, settle, source};
use crate::timer::Timer;

/// The time before expiry at which credentials are due here.
const AHEAD: Duration = Duration::from_secs(900);
/// The deadline of a source here.
const DEADLINE: Duration = Duration::from_secs(10);

fn cell(source: &Source, refresh: Refresh) -> Arc<CredentialCell> {
    cell_that_sleeps(source, refresh, TokioSleep::new())
}

fn cell_that_sleeps(
    source: &Source,
    refresh: Refresh,
    sleep: impl AsyncSleep + 'static,
) -> Arc<CredentialCell> {
    let clock = Clock::custom(SharedTimeSource::new(source.wall()));
    CredentialCell::new(
        source.clone(),
        clock,
        Timer::custom(SharedAsyncSleep::new(sleep)),
        refresh,
        AHEAD,
        DEADLINE,
    )
}

/// Returns the access key id or the error, and the time that the request took.
async fn request(cell: &Arc<CredentialCell>) -> (Result<String, Error>, Duration) {
    let begun = Instant::now();
    let given = cell.credentials().await;
    (given.map(|credentials| credentials.access_key_id().to_owned()), begun.elapsed())
}

/// Makes one request a second for that time. None fails or waits.
async fn all_are_served_at_once(cell: &Arc<CredentialCell>, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let (given, took) = request(cell).await;
        assert!(given.is_ok(), "{given:?} with {:?} to go", end - Instant::now());
        assert_eq!(took, Duration::ZERO, "with {:?} to go", end - Instant::now());
        tokio::time::sleep(SECOND).await;
    }
}
