//! One fetch for all concurrent requests.

use aws_credential_types::provider::error::CredentialsError;
use tokio::sync::Barrier;

use super::*;

/// A source that returns after all requests have started.
#[derive(Debug)]
struct AfterAllRequestsStarted(Source, Arc<Barrier>);

impl ProvideCredentials for AfterAllRequestsStarted {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.1.wait().await;
            self.0.call().await
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_requests_on_two_threads_share_one_call() {
    const TASKS: usize = 64;
    for _ in 0..50 {
        let (source, wall) = source(HOUR);
        let all = Arc::new(Barrier::new(TASKS + 1));
        let clock = Clock::custom(SharedTimeSource::new(wall));
        let timer = Timer::tokio();
        let slow = AfterAllRequestsStarted(source.clone(), all.clone());
        let cell = CredentialCell::new(slow, clock, timer, Refresh::Background, REFRESH_AHEAD, DEADLINE);
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (cell, all) = (cell.clone(), all.clone());
                tokio::spawn(async move { tokio::join!(cell.credentials(), all.wait()).0 })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap().access_key_id(), "ASIA1");
        }
        assert_eq!(source.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_a_request_cancels_no_fetch() {
    let (source, _) = source(HOUR);
    source.set_latency(5 * SECOND);
    let cell = cell(&source, Refresh::Background);
    let timed_out = tokio::time::timeout(SECOND, request(&cell)).await;
    assert!(timed_out.is_err());
    let (result, took) = request(&cell).await;
    assert_eq!((result.unwrap().as_str(), took, source.calls()), ("ASIA1", 4 * SECOND, 1));
}

#[tokio::test(start_paused = true)]
async fn credentials_are_renewed_if_the_first_request_was_dropped() {
    let (source, _) = source(HOUR);
    source.set_latency(5 * SECOND);
    let cell = cell(&source, Refresh::Background);
    assert!(tokio::time::timeout(SECOND, request(&cell)).await.is_err());
    tokio::time::sleep(10 * HOUR).await;
    assert_eq!(request(&cell).await.1, Duration::ZERO);
}

fn missing() -> Error {
    Error::unusable("AWS_REGION", "is not set", "Set it")
}

#[tokio::test(start_paused = true)]
async fn all_waiting_requests_get_the_error_of_the_source() {
    let kinds: [fn() -> CredentialsError; 5] = [
        || CredentialsError::not_loaded(missing()),
        || CredentialsError::invalid_configuration(missing()),
        || CredentialsError::provider_error(missing()),
        || CredentialsError::unhandled(missing()),
        || CredentialsError::provider_timed_out(SECOND),
    ];
    for kind in kinds {
        let (source, _) = source(HOUR);
        source.set_behavior(Behavior::Fail(kind));
        source.set_latency(SECOND);
        let cell = cell(&source, Refresh::Background);
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let cell = cell.clone();
                tokio::spawn(async move { cell.credentials().await.unwrap_err() })
            })
            .collect();
        for waiting in waiting {
            let (error, wanted) = (waiting.await.unwrap(), kind());
            match wanted {
                CredentialsError::ProviderTimedOut(_) => {
                    assert!(error.to_string().contains("timed out after 1 seconds"), "{error}");
                }
                _ => assert_eq!(error.to_string(), missing().to_string()),
            }
            let result = CredentialsError::from(error);
            assert_eq!(std::mem::discriminant(&result), std::mem::discriminant(&wanted), "{result:?}");
        }
        assert_eq!(source.calls(), 1);
    }
}
