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
use crate::scripted::{Behavior, HOUR, MINUTE, SECOND, Source, agent_down, settle, source};
use crate::timer::Timer;

const REFRESH_AHEAD: Duration = Duration::from_secs(900);
const DEADLINE: Duration = Duration::from_secs(10);

fn cell(source: &Source, refresh: Refresh) -> Arc<CredentialCell> {
    cell_with_sleep(source, refresh, TokioSleep::new())
}

fn cell_with_sleep(
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
        REFRESH_AHEAD,
        DEADLINE,
    )
}

/// Makes a request. Returns the access key id or the error, and the duration.
async fn request(cell: &Arc<CredentialCell>) -> (Result<String, Error>, Duration) {
    let started = Instant::now();
    let result = cell.credentials().await;
    (result.map(|credentials| credentials.access_key_id().to_owned()), started.elapsed())
}

/// Makes one request per second for `time`, and asserts that none fails or waits.
async fn assert_served_without_waiting(cell: &Arc<CredentialCell>, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let (result, took) = request(cell).await;
        assert!(result.is_ok(), "{result:?} with {:?} to go", end - Instant::now());
        assert_eq!(took, Duration::ZERO, "with {:?} to go", end - Instant::now());
        tokio::time::sleep(SECOND).await;
    }
}
