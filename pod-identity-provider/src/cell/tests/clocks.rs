//! Wall clocks that are set.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_ends_credentials_and_brings_their_renewal_near() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    wall.set(50 * 60);
    all_are_served_at_once(&cell, 61 * SECOND).await;
    assert_eq!(source.calls(), 2, "the task looks at the clock once a minute");
    wall.set(2 * 3600);
    assert!(cell.credentials_at_hand().is_none());
    assert_eq!(request(&cell).await.0.unwrap(), "ASIA3");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_make_credentials_last_longer() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    wall.set(-12 * 3600);
    tokio::time::sleep(HOUR - SECOND).await;
    assert_eq!(cell.credentials_at_hand().unwrap().access_key_id(), "ASIA1");
    tokio::time::sleep(SECOND).await;
    assert!(cell.credentials_at_hand().is_none());
}

#[tokio::test(start_paused = true)]
async fn renewals_go_on_after_a_clock_was_set_back() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    wall.set(-12 * 3600);
    all_are_served_at_once(&cell, 5 * HOUR).await;
    assert!((6..=7).contains(&source.calls()), "{}", source.calls());
}
