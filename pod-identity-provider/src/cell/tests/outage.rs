//! Sources that are away, hang or panic.

use super::*;
use crate::error::{EndpointError, Failure};

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_for_all_of_a_life_but_its_last_minute_costs_no_request_anything() {
    for refresh in [Refresh::Background, Refresh::OnRequest] {
        let (source, _) = source(6 * HOUR);
        let cell = cell(&source, refresh);
        request(&cell).await.0.unwrap();
        source.answers(Answer::Failure(away));
        source.takes(3 * SECOND);
        all_are_served_at_once(&cell, 6 * HOUR - MINUTE).await;
        let failed = source.calls() - 1;
        // 11 to 14 minutes of pauses that grow to 30 s, a quarter less or more.
        assert!((15..60).contains(&failed), "{refresh:?}: {failed}");
        source.answers(Answer::Lasting(6 * HOUR));
        all_are_served_at_once(&cell, 10 * MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn past_the_end_errors_are_a_second_old_at_most_and_the_first_request_after_recovery_has_credentials() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    source.answers(Answer::Failure(away));
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
async fn a_source_is_asked_again_no_earlier_than_it_says() {
    fn throttled() -> CredentialsError {
        let answer = Failure::Answer { status: 503, code: None, message: String::new(), page: false };
        Error::Endpoint(EndpointError {
            endpoint: "http://169.254.170.23".to_owned(),
            failure: answer,
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
        assert!(Error::of(&error).is_some_and(|error| error.retry_after().is_some()), "{error:?}");
        tokio::time::sleep(SECOND / 20).await;
    }
    assert!((3..=4).contains(&source.calls()), "{}", source.calls());
    source.answers(Answer::Lasting(HOUR));
    tokio::time::sleep(21 * SECOND).await;
    request(&cell).await.0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_requests_a_source_that_is_away_is_asked_now_and_then_and_the_task_finds_it_again() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    source.answers(Answer::Failure(away));
    tokio::time::sleep(3 * HOUR).await;
    // For two hours and a quarter, every 30 s, a quarter less or more.
    assert!((200..400).contains(&source.calls()), "{}", source.calls());
    source.answers(Answer::Lasting(HOUR));
    tokio::time::sleep(MINUTE).await;
    assert_eq!(request(&cell).await.1, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_delays_nobody_while_credentials_hold_and_then_no_longer_than_its_deadline() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    source.answers(Answer::Failure(away));
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
async fn a_source_that_panics_has_failed_and_is_asked_again_after_a_pause() {
    let (source, _) = source(HOUR);
    source.answers(Answer::Panic);
    let cell = cell(&source, Refresh::Background);
    for _ in 0..50 {
        let error = request(&cell).await.0.unwrap_err();
        assert!(matches!(Error::of(&error), Some(Error::Panicked)), "{error:?}");
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
