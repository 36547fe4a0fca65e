//! Sources that are down, hang or panic.

use super::*;
use aws_credential_types::provider::error::CredentialsError;

use crate::error::{EndpointError, EndpointRefusal, Failure};

#[tokio::test(start_paused = true)]
async fn outage_until_a_minute_before_expiry_fails_and_delays_no_request() {
    for refresh in [Refresh::Background, Refresh::OnRequest] {
        let (source, _) = source(6 * HOUR);
        let cell = cell(&source, refresh);
        request(&cell).await.0.unwrap();
        source.set_behavior(Behavior::Fail(agent_down));
        source.set_latency(3 * SECOND);
        assert_served_without_waiting(&cell, 6 * HOUR - MINUTE).await;
        let failed = source.calls() - 1;
        // The renewal fails for 11 to 14 minutes. Its pauses grow to 30 s plus or minus a quarter.
        assert!((15..60).contains(&failed), "{refresh:?}: {failed}");
        source.set_behavior(Behavior::ExpireAfter(6 * HOUR));
        assert_served_without_waiting(&cell, 10 * MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_expiry_errors_are_at_most_one_second_old_and_recovery_is_immediate() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    source.set_behavior(Behavior::Fail(agent_down));
    source.set_latency(SECOND / 10);
    tokio::time::sleep(2 * HOUR).await;
    let calls = source.calls();
    let started = Instant::now();
    while started.elapsed() < 5 * MINUTE {
        let (result, took) = request(&cell).await;
        assert!(result.is_err() && took <= SECOND / 10, "{result:?} after {took:?}");
        let age = *source.call_times().last().unwrap() + SECOND / 10;
        assert!(age.elapsed() <= SECOND, "the error is {:?} old", age.elapsed());
        tokio::time::sleep(SECOND / 20).await;
    }
    let calls = source.calls() - calls;
    assert!((200..=400).contains(&calls), "{calls} calls, want about one per second");

    source.set_behavior(Behavior::ExpireAfter(HOUR));
    let started = Instant::now();
    while request(&cell).await.0.is_err() {
        tokio::time::sleep(SECOND / 20).await;
    }
    assert!(started.elapsed() <= SECOND * 5 / 4, "{:?}", started.elapsed());
    assert_served_without_waiting(&cell, 2 * HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn no_call_is_made_during_the_retry_after_of_a_source() {
    fn throttled() -> CredentialsError {
        let refusal = EndpointRefusal {
            status: 503,
            code: None,
            message: String::new(),
            is_markup: false,
            without_token: false,
        };
        Error::Endpoint(EndpointError {
            endpoint: "http://169.254.170.23".to_owned(),
            failure: Failure::Refusal(refusal),
            attempts: 1,
            took: Duration::ZERO,
            retry_after: Some(20 * SECOND),
        })
        .into()
    }
    let (source, _) = source(HOUR);
    source.set_behavior(Behavior::Fail(throttled));
    let cell = cell(&source, Refresh::OnRequest);
    let started = Instant::now();
    while started.elapsed() < MINUTE {
        let error = request(&cell).await.0.unwrap_err();
        assert!(error.retry_after().is_some(), "{error}");
        tokio::time::sleep(SECOND / 20).await;
    }
    assert!((3..=4).contains(&source.calls()), "{}", source.calls());
    source.set_behavior(Behavior::ExpireAfter(HOUR));
    tokio::time::sleep(21 * SECOND).await;
    request(&cell).await.0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn task_retries_a_failing_source_without_requests() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    source.set_behavior(Behavior::Fail(agent_down));
    tokio::time::sleep(3 * HOUR).await;
    // One call every 30 s plus or minus a quarter, for two hours and a quarter.
    assert!((200..400).contains(&source.calls()), "{}", source.calls());
    source.set_behavior(Behavior::ExpireAfter(HOUR));
    tokio::time::sleep(MINUTE).await;
    assert_eq!(request(&cell).await.1, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn hanging_source_delays_requests_only_after_expiry_and_at_most_by_its_deadline() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    source.set_behavior(Behavior::Fail(agent_down));
    source.set_latency(DEADLINE);
    assert_served_without_waiting(&cell, HOUR - SECOND).await;
    for _ in 0..100 {
        tokio::time::sleep(SECOND).await;
        let (result, took) = request(&cell).await;
        assert!(result.is_err(), "{result:?}");
        assert!(took <= DEADLINE, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn panic_of_the_source_counts_as_a_failed_fetch() {
    let (source, _) = source(HOUR);
    source.set_behavior(Behavior::Panic);
    let cell = cell(&source, Refresh::Background);
    for _ in 0..50 {
        let error = request(&cell).await.0.unwrap_err();
        assert!(matches!(error, Error::Source(_)) && error.to_string().contains("panicked"), "{error}");
    }
    assert_eq!(source.calls(), 1);
    source.set_behavior(Behavior::ExpireAfter(HOUR));
    tokio::time::sleep(2 * SECOND).await;
    request(&cell).await.0.unwrap();
    // The renewal task survives a panic.
    source.set_behavior(Behavior::Panic);
    tokio::time::sleep(50 * MINUTE).await;
    source.set_behavior(Behavior::ExpireAfter(HOUR));
    tokio::time::sleep(9 * MINUTE).await;
    assert_served_without_waiting(&cell, HOUR).await;
}
