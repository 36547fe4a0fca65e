//! The times of renewals, for which no request waits.

use super::*;

/// Returns the life left at the renewal of credentials with that life, for forty cells.
async fn left_at_renewal(life: Duration) -> Vec<Duration> {
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
        let asked = source.asked();
        life - (asked[1] - asked[0])
    };
    cells.iter().map(|(_, source)| left(source)).collect()
}

#[tokio::test(start_paused = true)]
async fn credentials_are_renewed_15_minutes_before_expiry_or_up_to_a_fifth_of_that_later() {
    let left = left_at_renewal(6 * HOUR).await;
    assert!(left.iter().all(|left| *left <= AHEAD), "{left:?}");
    assert!(left.iter().all(|left| *left >= AHEAD * 4 / 5 - SECOND), "{left:?}");
    let (first, last) = (left.iter().min().unwrap(), left.iter().max().unwrap());
    assert!(*last - *first > MINUTE, "programs that started together fetch apart: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_short_life_is_renewed_at_its_half_or_up_to_a_fifth_of_that_later() {
    let left = left_at_renewal(20 * MINUTE).await;
    assert!(left.iter().all(|left| *left <= 10 * MINUTE), "{left:?}");
    assert!(left.iter().all(|left| *left >= 8 * MINUTE - SECOND), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn only_the_first_request_waits() {
    let (source, _) = source(HOUR);
    source.takes(8 * SECOND);
    let cell = cell(&source, Refresh::Background);
    assert_eq!(request(&cell).await.1, 8 * SECOND);
    all_are_served_at_once(&cell, 10 * HOUR).await;
    // 45 to 48 minutes each.
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
async fn on_request_a_request_starts_the_renewal_and_does_not_wait() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    source.takes(5 * SECOND);
    tokio::time::sleep(50 * MINUTE).await;
    assert_eq!(source.calls(), 1, "there was no request");
    for _ in 0..100 {
        let (given, took) = request(&cell).await;
        assert_eq!((given.unwrap().as_str(), took), ("ASIA1", Duration::ZERO));
    }
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(request(&cell).await.0.unwrap(), "ASIA2");
    assert_eq!(source.calls(), 2, "one fetch for all of them");
    // After expiry: the first request waits and gets valid credentials.
    tokio::time::sleep(2 * HOUR).await;
    let (given, took) = request(&cell).await;
    assert_eq!((given.unwrap().as_str(), took), ("ASIA3", 5 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn credentials_without_an_expiry_are_renewed_every_quarter_of_an_hour_and_stay_valid() {
    let (source, _) = source(HOUR);
    source.answers(Answer::WithoutEnd);
    let cell = cell(&source, Refresh::Background);
    all_are_served_at_once(&cell, 100 * MINUTE).await;
    // Every 12 to 15 minutes.
    assert!((7..=9).contains(&source.calls()), "{}", source.calls());
    source.answers(Answer::Failure(down));
    all_are_served_at_once(&cell, 10 * HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn credentials_that_expire_soon_do_not_replace_cached_ones_that_last_longer() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    source.answers(Answer::Lasting(SECOND));
    wall.set(50 * 60);
    request(&cell).await.0.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!((request(&cell).await.0.unwrap().as_str(), source.calls()), ("ASIA1", 2));
    // They are taken once there are no others.
    wall.set(3600);
    assert_ne!(request(&cell).await.0.unwrap(), "ASIA1");
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_new_credentials_in_the_last_ten_seconds() {
    let (source, wall) = source(HOUR);
    source.takes(2 * SECOND);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    // A program that was frozen: the rest of the life may be shorter than its request.
    wall.set(3600 - 8);
    let (given, took) = request(&cell).await;
    assert_eq!((given.unwrap().as_str(), took), ("ASIA2", 2 * SECOND));

    // A source that hangs takes half of what is left, at most.
    source.answers(Answer::Silence);
    wall.set(3600 - 8);
    let (given, took) = request(&cell).await;
    assert_eq!((given.unwrap().as_str(), took), ("ASIA2", 4 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_in_the_last_ten_seconds_after_a_fetch_has_failed() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    source.answers(Answer::Failure(down));
    source.takes(SECOND);
    all_are_served_at_once(&cell, HOUR - SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn with_no_time_ahead_credentials_are_renewed_as_they_expire_and_no_request_fails() {
    for refresh in [Refresh::Background, Refresh::OnRequest] {
        let (source, wall) = source(HOUR);
        let clock = Clock::custom(SharedTimeSource::new(wall));
        let timer = Timer::tokio();
        let cell = CredentialCell::new(source.clone(), clock, timer, refresh, Duration::ZERO, DEADLINE);
        for _ in 0..3 * 3600 {
            request(&cell).await.0.unwrap();
            tokio::time::sleep(SECOND).await;
        }
        let gaps = source.asked().windows(2).map(|two| two[1] - two[0]).collect::<Vec<_>>();
        assert!((2..=3).contains(&gaps.len()), "{gaps:?}");
        assert!(gaps.iter().all(|gap| *gap >= HOUR - 10 * SECOND), "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_returns_the_same_credentials_is_called_a_few_times_only() {
    let (source, wall) = source(HOUR);
    source.answers(Answer::Until(wall.now() + 14 * MINUTE));
    let cell = cell(&source, Refresh::Background);
    all_are_served_at_once(&cell, 14 * MINUTE).await;
    assert!((5..=15).contains(&source.calls()), "{}", source.calls());
}

#[tokio::test(start_paused = true)]
async fn credentials_that_had_expired_on_arrival_are_an_error() {
    let (source, wall) = source(HOUR);
    source.answers(Answer::Until(wall.now() - 7 * SECOND));
    let cell = cell(&source, Refresh::Background);
    let error = request(&cell).await.0.unwrap_err();
    assert!(matches!(error, Error::Expired(_)), "{error}");
    assert!(error.to_string().contains("had expired 7 s before their arrival"), "{error}");
    assert!(cell.valid_credentials().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_expiry_beyond_all_clocks_is_accepted() {
    let (source, _) = source(HOUR);
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64 / 2);
    source.answers(Answer::Until(end));
    let cell = cell(&source, Refresh::Background);
    all_are_served_at_once(&cell, HOUR).await;
    assert_eq!(source.calls(), 1);
}
