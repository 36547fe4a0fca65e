//! One fetch for all concurrent requests.

use aws_credential_types::provider::error::CredentialsError;
use tokio::sync::Barrier;

use super::*;

/// A source that answers once all requests have begun.
#[derive(Debug)]
struct WhenAllHaveAsked(Source, Arc<Barrier>);

impl ProvideCredentials for WhenAllHaveAsked {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.1.wait().await;
            self.0.answer().await
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_requests_on_two_threads_are_one_call() {
    const TASKS: usize = 64;
    for _ in 0..50 {
        let (source, wall) = source(HOUR);
        let all = Arc::new(Barrier::new(TASKS + 1));
        let clock = Clock::custom(SharedTimeSource::new(wall));
        let timer = Timer::tokio();
        let slow = WhenAllHaveAsked(source.clone(), all.clone());
        let cell = CredentialCell::new(slow, clock, timer, Refresh::Background, AHEAD, DEADLINE);
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
async fn a_dropped_request_cancels_no_fetch() {
    let (source, _) = source(HOUR);
    source.takes(5 * SECOND);
    let cell = cell(&source, Refresh::Background);
    let impatient = tokio::time::timeout(SECOND, request(&cell)).await;
    assert!(impatient.is_err());
    let (given, took) = request(&cell).await;
    assert_eq!((given.unwrap().as_str(), took, source.calls()), ("ASIA1", 4 * SECOND, 1));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_no_request_waited_for_are_renewed_too() {
    let (source, _) = source(HOUR);
    source.takes(5 * SECOND);
    let cell = cell(&source, Refresh::Background);
    assert!(tokio::time::timeout(SECOND, request(&cell)).await.is_err());
    tokio::time::sleep(10 * HOUR).await;
    assert_eq!(request(&cell).await.1, Duration::ZERO);
}

fn missing() -> Error {
    Error::unusable("AWS_REGION", "is not set", "Set it")
}

#[tokio::test(start_paused = true)]
async fn all_waiting_requests_get_the_error_of_the_source_with_its_kind_and_its_text() {
    let kinds: [fn() -> CredentialsError; 5] = [
        || CredentialsError::not_loaded(missing()),
        || CredentialsError::invalid_configuration(missing()),
        || CredentialsError::provider_error(missing()),
        || CredentialsError::unhandled(missing()),
        || CredentialsError::provider_timed_out(SECOND),
    ];
    for kind in kinds {
        let (source, _) = source(HOUR);
        source.answers(Answer::Failure(kind));
        source.takes(SECOND);
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
            let given = CredentialsError::from(error);
            assert_eq!(std::mem::discriminant(&given), std::mem::discriminant(&wanted), "{given:?}");
        }
        assert_eq!(source.calls(), 1);
    }
}
