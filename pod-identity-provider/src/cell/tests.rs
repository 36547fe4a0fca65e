//! Cells in virtual time, filled by a source that does as the test says.

mod clocks;
mod outage;
mod renewal;
mod runtimes;
mod sharing;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource as _};
use tokio::time::Instant;

use super::{Cell, Refresh};
use crate::clock::Clock;
use crate::error::Error;
use crate::scripted::{Answer, HOUR, MINUTE, SECOND, Source, away, settle, source};
use crate::timer::Timer;

/// How long before their end credentials are renewed here.
const AHEAD: Duration = Duration::from_secs(900);
/// How long a source may take here.
const DEADLINE: Duration = Duration::from_secs(10);

fn cell(source: &Source, refresh: Refresh) -> Arc<Cell> {
    cell_that_sleeps(source, refresh, TokioSleep::new())
}

fn cell_that_sleeps(source: &Source, refresh: Refresh, sleep: impl AsyncSleep + 'static) -> Arc<Cell> {
    let clock = Clock::given(SharedTimeSource::new(source.wall()));
    Cell::new(source.clone(), clock, Timer::given(SharedAsyncSleep::new(sleep)), refresh, AHEAD, DEADLINE)
}

/// Which of the source's answers the cell gives, and how long that takes.
async fn request(cell: &Arc<Cell>) -> (Result<String, CredentialsError>, Duration) {
    let begun = Instant::now();
    let given = cell.credentials().await;
    (given.map(|credentials| credentials.access_key_id().to_owned()), begun.elapsed())
}

/// One request a second for that long. None fails, and none waits.
async fn all_are_served_at_once(cell: &Arc<Cell>, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let (given, took) = request(cell).await;
        assert!(given.is_ok(), "{given:?} with {:?} to go", end - Instant::now());
        assert_eq!(took, Duration::ZERO, "with {:?} to go", end - Instant::now());
        tokio::time::sleep(SECOND).await;
    }
}
