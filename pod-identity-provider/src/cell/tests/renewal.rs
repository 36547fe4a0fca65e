//! The times of renewals.

use super::*;

/// Renews credentials with this lifetime in forty cells. Returns the time from each renewal to the expiry.
async fn times_from_renewal_to_expiry(life: Duration) -> Vec<Duration> {
    let cells: Vec<_> = (0..40)
        .map(|_| {
            let (source, _) = source(life);
            (cell(&source, Refresh::Background), source)
        })
        .collect();
    for (cell, _) in &cells {
        assert_eq!(request(cell).await.0.unwrap(), "ASIA1");
    }
    tokio::time::sleep(life).await;
    let left = |source: &Source| {
        let asked = source.call_times();
        life - (asked[1] - asked[0])
    };
    cells.iter().map(|(_, source)| left(source)).collect()
}

#[tokio::test(start_paused = true)]
async fn credentials_are_renewed_12_to_15_minutes_before_expiry() {
    let left = times_from_renewal_to_expiry(6 * HOUR).await;
    assert!(left.iter().all(|left| *left <= REFRESH_AHEAD), "{left:?}");
    assert!(left.iter().all(|left| *left >= REFRESH_AHEAD * 4 / 5 - SECOND), "{left:?}");
    let (first, last) = (left.iter().min().unwrap(), left.iter().max().unwrap());
    assert!(*last - *first > MINUTE, "all renewals are within a minute: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn short_lifetime_is_renewed_when_40_to_50_percent_remain() {
    let left = times_from_renewal_to_expiry(20 * MINUTE).await;
    assert!(left.iter().all(|left| *left <= 10 * MINUTE), "{left:?}");
    assert!(left.iter().all(|left| *left >= 8 * MINUTE - SECOND), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn only_the_first_request_waits() {
    let (source, _) = source(HOUR);
    source.set_latency(8 * SECOND);
    let cell = cell(&source, Refresh::Background);
    assert_eq!(request(&cell).await.1, 8 * SECOND);
    assert_served_without_waiting(&cell, 10 * HOUR).await;
    // Each renewal is 45 to 48 minutes after the previous one.
    assert!((12..=15).contains(&source.calls()), "{}", source.calls());
}

#[tokio::test(start_paused = true)]
async fn credentials_are_renewed_without_requests() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    tokio::time::sleep(24 * HOUR).await;
    assert!(source.calls() > 24, "{}", source.calls());
    assert_eq!(request(&cell).await.1, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn with_on_request_a_request_starts_the_renewal_and_does_not_wait() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    source.set_latency(5 * SECOND);
    tokio::time::sleep(50 * MINUTE).await;
    assert_eq!(source.calls(), 1, "there was no request");
    for _ in 0..100 {
        let (result, took) = request(&cell).await;
        assert_eq!((result.unwrap().as_str(), took), ("ASIA1", Duration::ZERO));
    }
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(request(&cell).await.0.unwrap(), "ASIA2");
    assert_eq!(source.calls(), 2, "the requests shared one fetch");
    // After expiry, the first request waits for valid credentials.
    tokio::time::sleep(2 * HOUR).await;
    let (result, took) = request(&cell).await;
    assert_eq!((result.unwrap().as_str(), took), ("ASIA3", 5 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn credentials_without_an_expiry_are_renewed_every_15_minutes_and_stay_valid() {
    let (source, _) = source(HOUR);
    source.set_behavior(Behavior::NeverExpire);
    let cell = cell(&source, Refresh::Background);
    assert_served_without_waiting(&cell, 100 * MINUTE).await;
    // One renewal every 12 to 15 minutes.
    assert!((7..=9).contains(&source.calls()), "{}", source.calls());
    source.set_behavior(Behavior::Fail(agent_down));
    assert_served_without_waiting(&cell, 10 * HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn credentials_near_expiry_do_not_replace_cached_ones_that_expire_later() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    source.set_behavior(Behavior::ExpireAfter(SECOND));
    wall.advance(50 * 60);
    request(&cell).await.0.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!((request(&cell).await.0.unwrap().as_str(), source.calls()), ("ASIA1", 2));
    // Without cached credentials they are used.
    wall.advance(3600);
    assert_ne!(request(&cell).await.0.unwrap(), "ASIA1");
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_new_credentials_in_the_last_ten_seconds_before_expiry() {
    let (source, wall) = source(HOUR);
    source.set_latency(2 * SECOND);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    // A program that was frozen until shortly before expiry.
    wall.advance(3600 - 8);
    let (result, took) = request(&cell).await;
    assert_eq!((result.unwrap().as_str(), took), ("ASIA2", 2 * SECOND));

    // With a source that hangs, a request waits for at most half of the remaining time.
    source.set_behavior(Behavior::Hang);
    wall.advance(3600 - 8);
    let (result, took) = request(&cell).await;
    assert_eq!((result.unwrap().as_str(), took), ("ASIA2", 4 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_in_the_last_ten_seconds_after_a_fetch_has_failed() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    source.set_behavior(Behavior::Fail(agent_down));
    source.set_latency(SECOND);
    assert_served_without_waiting(&cell, HOUR - SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn with_zero_refresh_ahead_credentials_are_renewed_at_expiry_and_no_request_fails() {
    for refresh in [Refresh::Background, Refresh::OnRequest] {
        let (source, wall) = source(HOUR);
        let clock = Clock::custom(SharedTimeSource::new(wall));
        let timer = Timer::tokio();
        let cell = CredentialCell::new(source.clone(), clock, timer, refresh, Duration::ZERO, DEADLINE);
        for _ in 0..3 * 3600 {
            request(&cell).await.0.unwrap();
            tokio::time::sleep(SECOND).await;
        }
        let gaps = source.call_times().windows(2).map(|two| two[1] - two[0]).collect::<Vec<_>>();
        assert!((2..=3).contains(&gaps.len()), "{gaps:?}");
        assert!(gaps.iter().all(|gap| *gap >= HOUR - 10 * SECOND), "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn source_that_always_returns_the_same_credentials_is_called_at_most_15_times() {
    let (source, wall) = source(HOUR);
    source.set_behavior(Behavior::ExpireAt(wall.now() + 14 * MINUTE));
    let cell = cell(&source, Refresh::Background);
    assert_served_without_waiting(&cell, 14 * MINUTE).await;
    assert!((5..=15).contains(&source.calls()), "{}", source.calls());
}

#[tokio::test(start_paused = true)]
async fn rejects_expired_credentials() {
    let (source, wall) = source(HOUR);
    source.set_behavior(Behavior::ExpireAt(wall.now() - 7 * SECOND));
    let cell = cell(&source, Refresh::Background);
    let error = request(&cell).await.0.unwrap_err();
    assert!(matches!(error, Error::Expired(_)), "{error}");
    assert!(error.to_string().contains("had expired 7 s before their arrival"), "{error}");
    assert!(cell.valid_credentials().is_none());
}

#[tokio::test(start_paused = true)]
async fn accepts_an_expiry_in_the_far_future() {
    let (source, _) = source(HOUR);
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64 / 2);
    source.set_behavior(Behavior::ExpireAt(end));
    let cell = cell(&source, Refresh::Background);
    assert_served_without_waiting(&cell, HOUR).await;
    assert_eq!(source.calls(), 1);
}
