//! Changes of the wall clock.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_expires_credentials_or_makes_them_due() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    wall.set(50 * 60);
    all_are_served_at_once(&cell, 61 * SECOND).await;
    assert_eq!(source.calls(), 2, "the task reads the clock once a minute");
    wall.set(2 * 3600);
    assert!(cell.valid_credentials().is_none());
    assert_eq!(request(&cell).await.0.unwrap(), "ASIA3");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_prolong_credentials() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    wall.set(-12 * 3600);
    tokio::time::sleep(HOUR - SECOND).await;
    assert_eq!(cell.valid_credentials().unwrap().access_key_id(), "ASIA1");
    tokio::time::sleep(SECOND).await;
    assert!(cell.valid_credentials().is_none());
}

#[tokio::test(start_paused = true)]
async fn renewals_continue_after_a_clock_was_set_back() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    wall.set(-12 * 3600);
    all_are_served_at_once(&cell, 5 * HOUR).await;
    assert!((6..=7).contains(&source.calls()), "{}", source.calls());
}

#[tokio::test(start_paused = true)]
async fn an_identity_is_fresh_until_the_credentials_are_due_and_not_before_their_fetch() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    assert!(cell.fresh_identity().is_none());
    request(&cell).await.0.unwrap();
    for (set, fresh) in
        [(0, true), (44 * 60, true), (5 * 60, false), (60 * 60, false), (-109 * 60 - 1, false)]
    {
        wall.set(set);
        assert_eq!(cell.fresh_identity().is_some(), fresh, "set by {set} s");
    }
}
