//! When credentials are renewed, and that nobody waits for it.

use super::*;

/// When credentials with that life are renewed: how much of it is left then, of forty cells.
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
async fn credentials_are_renewed_15_minutes_before_their_end_or_up_to_a_fifth_of_that_later() {
    let left = left_at_renewal(6 * HOUR).await;
    assert!(left.iter().all(|left| *left <= AHEAD), "{left:?}");
    assert!(left.iter().all(|left| *left >= AHEAD * 4 / 5 - SECOND), "{left:?}");
    let (first, last) = (left.iter().min().unwrap(), left.iter().max().unwrap());
    assert!(*last - *first > MINUTE, "programs that started together ask apart: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_short_life_is_renewed_at_its_half_or_up_to_a_fifth_of_that_later() {
    let left = left_at_renewal(20 * MINUTE).await;
    assert!(left.iter().all(|left| *left <= 10 * MINUTE), "{left:?}");
    assert!(left.iter().all(|left| *left >= 8 * MINUTE - SECOND), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_but_the_first_waits() {
    let (source, _) = source(HOUR);
    source.takes(8 * SECOND);
    let cell = cell(&source, Refresh::Background);
    assert_eq!(request(&cell).await.1, 8 * SECOND);
    all_are_served_at_once(&cell, 10 * HOUR).await;
    // 45 to 48 minutes each.
    assert!((12..=15).contains(&source.calls()), "{}", source.calls());
}

#[tokio::test(start_paused = true)]
async fn credentials_are_renewed_though_nobody_asks() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    tokio::time::sleep(24 * HOUR).await;
    assert!(source.calls() > 24, "{}", source.calls());
    assert_eq!(request(&cell).await.1, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn on_request_nothing_is_fetched_until_somebody_asks_and_nobody_waits_for_it() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    source.takes(5 * SECOND);
    tokio::time::sleep(50 * MINUTE).await;
    assert_eq!(source.calls(), 1, "nobody has asked");
    for _ in 0..100 {
        let (given, took) = request(&cell).await;
        assert_eq!((given.unwrap().as_str(), took), ("ASIA1", Duration::ZERO));
    }
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(request(&cell).await.0.unwrap(), "ASIA2");
    assert_eq!(source.calls(), 2, "one fetch for all of them");
    // Past the end of what nobody asked for: the first waits, and gets what holds.
    tokio::time::sleep(2 * HOUR).await;
    let (given, took) = request(&cell).await;
    assert_eq!((given.unwrap().as_str(), took), ("ASIA3", 5 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn credentials_without_an_end_are_renewed_every_quarter_of_an_hour_and_hold_until_that_succeeds() {
    let (source, _) = source(HOUR);
    source.answers(Answer::WithoutEnd);
    let cell = cell(&source, Refresh::Background);
    all_are_served_at_once(&cell, 100 * MINUTE).await;
    // At 12 to 15 minutes each.
    assert!((7..=9).contains(&source.calls()), "{}", source.calls());
    source.answers(Answer::Failure(away));
    all_are_served_at_once(&cell, 10 * HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_about_to_end_does_not_replace_what_lasts_longer() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    source.answers(Answer::Lasting(SECOND));
    wall.set(50 * 60);
    request(&cell).await.0.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!((request(&cell).await.0.unwrap().as_str(), source.calls()), ("ASIA1", 2));
    // Once there is nothing better, it is taken.
    wall.set(3600);
    assert_ne!(request(&cell).await.0.unwrap(), "ASIA1");
}

#[tokio::test(start_paused = true)]
async fn new_credentials_are_waited_for_in_the_last_ten_seconds_unless_a_fetch_has_just_failed() {
    let (source, wall) = source(HOUR);
    source.takes(2 * SECOND);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    // A program that was frozen meanwhile: what is left may not last as long as its request.
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
async fn nobody_waits_in_the_last_ten_seconds_for_a_source_that_is_away() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    source.answers(Answer::Failure(away));
    source.takes(SECOND);
    all_are_served_at_once(&cell, HOUR - SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn with_nothing_to_be_left_credentials_are_renewed_as_they_end_and_no_request_fails() {
    for refresh in [Refresh::Background, Refresh::OnRequest] {
        let (source, wall) = source(HOUR);
        let clock = Clock::given(SharedTimeSource::new(wall));
        let timer = Timer::tokio();
        let cell = Cell::new(source.clone(), clock, timer, refresh, Duration::ZERO, DEADLINE);
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
async fn a_source_that_gives_the_same_until_they_end_is_asked_a_few_times_only() {
    let (source, wall) = source(HOUR);
    source.answers(Answer::Until(wall.now() + 14 * MINUTE));
    let cell = cell(&source, Refresh::Background);
    all_are_served_at_once(&cell, 14 * MINUTE).await;
    assert!((5..=15).contains(&source.calls()), "{}", source.calls());
}

#[tokio::test(start_paused = true)]
async fn credentials_that_had_ended_when_they_came_are_an_error_that_says_so() {
    let (source, wall) = source(HOUR);
    source.answers(Answer::Until(wall.now() - 7 * SECOND));
    let cell = cell(&source, Refresh::Background);
    let error = request(&cell).await.0.unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::Ended { .. })), "{error:?}");
    assert!(Error::of(&error).unwrap().to_string().contains("ended 7 s before"), "{error:?}");
    assert!(cell.credentials_at_hand().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_end_beyond_all_clocks_counts_as_far_away() {
    let (source, _) = source(HOUR);
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64 / 2);
    source.answers(Answer::Until(end));
    let cell = cell(&source, Refresh::Background);
    all_are_served_at_once(&cell, HOUR).await;
    assert_eq!(source.calls(), 1);
}
