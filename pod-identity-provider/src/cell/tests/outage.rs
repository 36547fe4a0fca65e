//! Sources that are down, hang or panic.

use super::*;
use aws_credential_types::provider::error::CredentialsError;

use crate::error::{EndpointError, Failure, Refusal};

#[tokio::test(start_paused = true)]
async fn an_outage_until_the_last_minute_of_a_life_fails_and_delays_no_request() {
    for refresh in [Refresh::Background, Refresh::OnRequest] {
        let (source, _) = source(6 * HOUR);
        let cell = cell(&source, refresh);
        request(&cell).await.0.unwrap();
        source.answers(Answer::Failure(down));
        source.takes(3 * SECOND);
        all_are_served_at_once(&cell, 6 * HOUR - MINUTE).await;
        let failed = source.calls() - 1;
        // In 11 to 14 minutes, with pauses that grow to 30 s plus or minus a quarter.
        assert!((15..60).contains(&failed), "{refresh:?}: {failed}");
        source.answers(Answer::Lasting(6 * HOUR));
        all_are_served_at_once(&cell, 10 * MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_expiry_errors_are_at_most_a_second_old_and_recovery_is_immediate() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    source.answers(Answer::Failure(down));
    source.takes(SECOND / 10);
    tokio::time::sleep(2 * HOUR).await;
    let calls = source.calls();
    let begun = Instant::now();
    while begun.elapsed() < 5 * MINUTE {
        let (given, took) = request(&cell).await;
        assert!(given.is_err() && took <= SECOND / 10, "{given:?} after {took:?}");
        let age = *source.asked().last().unwrap() + SECOND / 10;
        assert!(age.elapsed() <= SECOND, "an error that is {:?} old", age.elapsed());
        tokio::time::sleep(SECOND / 20).await;
    }
    let calls = source.calls() - calls;
    assert!((200..=400).contains(&calls), "about one call a second: {calls}");

    source.answers(Answer::Lasting(HOUR));
    let begun = Instant::now();
    while request(&cell).await.0.is_err() {
        tokio::time::sleep(SECOND / 20).await;
    }
    assert!(begun.elapsed() <= SECOND * 5 / 4, "{:?}", begun.elapsed());
    all_are_served_at_once(&cell, 2 * HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn the_retry_after_of_a_source_is_kept() {
    fn throttled() -> CredentialsError {
        let refusal =
            Refusal { status: 503, code: None, message: String::new(), page: false, without_token: false };
        Error::Endpoint(EndpointError {
            endpoint: "http://169.254.170.23".to_owned(),
            failure: Failure::Answer(refusal),
            attempts: 1,
            took: Duration::ZERO,
            retry_after: Some(20 * SECOND),
        })
        .into()
    }
    let (source, _) = source(HOUR);
    source.answers(Answer::Failure(throttled));
    let cell = cell(&source, Refresh::OnRequest);
    let begun = Instant::now();
    while begun.elapsed() < MINUTE {
        let error = request(&cell).await.0.unwrap_err();
        assert!(error.retry_after().is_some(), "{error}");
        tokio::time::sleep(SECOND / 20).await;
    }
    assert!((3..=4).contains(&source.calls()), "{}", source.calls());
    source.answers(Answer::Lasting(HOUR));
    tokio::time::sleep(21 * SECOND).await;
    request(&cell).await.0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_requests_the_task_retries_a_source_that_is_down() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    source.answers(Answer::Failure(down));
    tokio::time::sleep(3 * HOUR).await;
    // In two hours and a quarter, every 30 s plus or minus a quarter.
    assert!((200..400).contains(&source.calls()), "{}", source.calls());
    source.answers(Answer::Lasting(HOUR));
    tokio::time::sleep(MINUTE).await;
    assert_eq!(request(&cell).await.1, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_delays_no_request_until_expiry_and_then_at_most_its_deadline() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    source.answers(Answer::Failure(down));
    source.takes(DEADLINE);
    all_are_served_at_once(&cell, HOUR - SECOND).await;
    for _ in 0..100 {
        tokio::time::sleep(SECOND).await;
        let (given, took) = request(&cell).await;
        assert!(given.is_err(), "{given:?}");
        assert!(took <= DEADLINE, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_source_is_a_failure_with_a_pause() {
    let (source, _) = source(HOUR);
    source.answers(Answer::Panic);
    let cell = cell(&source, Refresh::Background);
    for _ in 0..50 {
        let error = request(&cell).await.0.unwrap_err();
        assert!(matches!(error, Error::Source(_)) && error.to_string().contains("panicked"), "{error}");
    }
    assert_eq!(source.calls(), 1);
    source.answers(Answer::Lasting(HOUR));
    tokio::time::sleep(2 * SECOND).await;
    request(&cell).await.0.unwrap();
    // The task survives it too.
    source.answers(Answer::Panic);
    tokio::time::sleep(50 * MINUTE).await;
    source.answers(Answer::Lasting(HOUR));
    tokio::time::sleep(9 * MINUTE).await;
    all_are_served_at_once(&cell, HOUR).await;
}
