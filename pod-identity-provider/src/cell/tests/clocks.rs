//! Changes of the wall clock.

use super::*;

#[tokio::test(start_paused = true)]
async fn wall_clock_set_forward_makes_credentials_due_or_expires_them() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    wall.advance(50 * 60);
    assert_served_without_waiting(&cell, 61 * SECOND).await;
    assert_eq!(source.calls(), 2, "the task reads the clock once per minute");
    wall.advance(2 * 3600);
    assert!(cell.valid_credentials().is_none());
    assert_eq!(request(&cell).await.0.unwrap(), "ASIA3");
}

#[tokio::test(start_paused = true)]
async fn wall_clock_set_back_does_not_extend_the_lifetime() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    wall.advance(-12 * 3600);
    tokio::time::sleep(HOUR - SECOND).await;
    assert_eq!(cell.valid_credentials().unwrap().access_key_id(), "ASIA1");
    tokio::time::sleep(SECOND).await;
    assert!(cell.valid_credentials().is_none());
}

#[tokio::test(start_paused = true)]
async fn renewals_continue_after_the_wall_clock_was_set_back() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    wall.advance(-12 * 3600);
    assert_served_without_waiting(&cell, 5 * HOUR).await;
    assert!((6..=7).contains(&source.calls()), "{}", source.calls());
}

#[tokio::test(start_paused = true)]
async fn identity_is_fresh_between_the_fetch_and_the_due_time() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    assert!(cell.fresh_identity().is_none());
    request(&cell).await.0.unwrap();
    for (seconds, fresh) in
        [(0, true), (44 * 60, true), (5 * 60, false), (60 * 60, false), (-109 * 60 - 1, false)]
    {
        wall.advance(seconds);
        assert_eq!(cell.fresh_identity().is_some(), fresh, "after {seconds} s more");
    }
}
