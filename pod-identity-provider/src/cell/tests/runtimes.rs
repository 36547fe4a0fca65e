//! Runtimes that end, that nobody drives, or that are missing.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use aws_smithy_async::rt::sleep::Sleep;
use tokio::runtime::{Builder, Handle, Runtime};

use super::*;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_provider() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    request(&cell).await.0.unwrap();
    settle().await;
    assert_eq!(tasks(), 1);
    drop(cell);
    settle().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn on_request_there_is_no_task_between_fetches() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    settle().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_of_a_request_or_of_the_task_ends_with_the_provider() {
    // A request.
    let (first, _) = source(HOUR);
    first.answers(Answer::Silence);
    let provider = cell(&first, Refresh::Background);
    assert!(tokio::time::timeout(SECOND, request(&provider)).await.is_err());
    assert_eq!((first.open(), tasks()), (1, 1));
    drop(provider);
    settle().await;
    assert_eq!((first.open(), tasks()), (0, 0));
    // The task.
    let (second, _) = source(HOUR);
    let provider = cell(&second, Refresh::Background);
    request(&provider).await.0.unwrap();
    second.answers(Answer::Silence);
    tokio::time::sleep(50 * MINUTE).await;
    assert_eq!((second.open(), tasks()), (1, 1));
    drop(provider);
    settle().await;
    assert_eq!((second.open(), tasks()), (0, 0));
}

#[test]
fn the_next_runtime_takes_over_from_one_that_has_ended() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    let one = runtime();
    one.block_on(request(&cell)).0.unwrap();
    drop(one);
    wall.set(50 * 60);
    runtime().block_on(async {
        let (given, took) = request(&cell).await;
        assert_eq!((given.unwrap().as_str(), took), ("ASIA1", Duration::ZERO));
        settle().await;
        assert_eq!((source.calls(), tasks()), (2, 1));
        tokio::time::sleep(10 * HOUR).await;
        assert_eq!(request(&cell).await.1, Duration::ZERO);
    });
}

#[test]
fn a_fetch_that_ended_with_its_runtime_begins_again() {
    let (source, _) = source(HOUR);
    source.answers(Answer::Silence);
    let cell = cell(&source, Refresh::Background);
    let one = runtime();
    one.block_on(async { assert!(tokio::time::timeout(SECOND, request(&cell)).await.is_err()) });
    drop(one);
    assert_eq!(source.open(), 0);
    source.answers(Answer::Lasting(HOUR));
    let (given, took) = runtime().block_on(request(&cell));
    assert_eq!((given.unwrap().as_str(), took), ("ASIA2", Duration::ZERO));
}

#[test]
fn a_request_whose_fetches_all_end_with_their_runtimes_fails() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    let mut waiting = pin!(cell.credentials());
    let context = &mut Context::from_waker(Waker::noop());
    for _ in 0..3 {
        // Its fetch is a task of that runtime, which nobody drives.
        let ends = runtime();
        let _inside = ends.enter();
        assert!(waiting.as_mut().poll(context).is_pending());
    }
    let Poll::Ready(Err(error)) = waiting.as_mut().poll(context) else { panic!("it still waits") };
    assert!(matches!(error, Error::Runtime(_)) && error.is_retryable(), "{error}");
    assert_eq!(source.calls(), 0);
    // Only this request failed.
    assert_eq!(runtime().block_on(request(&cell)).0.unwrap(), "ASIA1");
}

#[test]
fn a_fetch_on_a_runtime_that_nobody_drives_delays_requests_by_its_deadline_at_most() {
    let (source, _) = source(HOUR);
    source.takes(2 * SECOND);
    let cell = cell(&source, Refresh::Background);
    let stands_still = runtime();
    stands_still.block_on(async { assert!(tokio::time::timeout(SECOND, request(&cell)).await.is_err()) });
    let (given, took) = runtime().block_on(async {
        let both = tokio::join!(request(&cell), request(&cell));
        assert_eq!(both.0.0.as_ref().unwrap(), both.1.0.as_ref().unwrap());
        both.0
    });
    assert_eq!((given.unwrap().as_str(), took), ("ASIA2", DEADLINE + SECOND + 2 * SECOND));
    assert_eq!(source.calls(), 2);
    // The late result of the first fetch is discarded.
    stands_still.block_on(async { tokio::time::sleep(MINUTE).await });
    assert_eq!((cell.valid_credentials().unwrap().access_key_id(), source.open()), ("ASIA2", 0));
}

#[test]
fn a_task_on_a_runtime_that_nobody_drives_leaves_renewals_to_requests() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    let stands_still = runtime();
    stands_still.block_on(request(&cell)).0.unwrap();
    wall.set(50 * 60);
    let other = runtime();
    other.block_on(async {
        assert_eq!(request(&cell).await.0.unwrap(), "ASIA1");
        settle().await;
        assert_eq!(request(&cell).await.0.unwrap(), "ASIA2");
    });
}

#[test]
fn a_renewal_on_a_runtime_that_nobody_drives_is_taken_over_before_expiry() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    let stands_still = runtime();
    stands_still.block_on(request(&cell)).0.unwrap();
    // Due: the request is served at once, and the runtime's task is never polled.
    wall.set(50 * 60);
    assert_eq!(stands_still.block_on(request(&cell)).0.unwrap(), "ASIA1");
    let other = runtime();
    other.block_on(all_are_served_at_once(&cell, DEADLINE + 5 * SECOND));
    assert_eq!(source.calls(), 2);
    assert_eq!(other.block_on(request(&cell)).0.unwrap(), "ASIA2");
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_for_a_fetch_that_began_long_ago() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    // The process was frozen during a renewal, until after expiry.
    source.answers(Answer::Silence);
    wall.set(50 * 60);
    request(&cell).await.0.unwrap();
    settle().await;
    assert_eq!(source.open(), 1);
    tokio::time::advance(20 * MINUTE).await;
    source.answers(Answer::Lasting(HOUR));
    let (given, took) = request(&cell).await;
    assert_eq!((given.unwrap().as_str(), took), ("ASIA3", Duration::ZERO));
}

/// An executor without a runtime, which polls when it was woken.
fn without_a_runtime<T>(future: impl Future<Output = T>) -> T {
    #[derive(Default)]
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    assert!(Handle::try_current().is_err());
    let (flag, mut future) = (Arc::new(Flag(AtomicBool::new(true))), pin!(future));
    let waker = Waker::from(flag.clone());
    while flag.0.swap(false, Ordering::Relaxed) {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
    }
    panic!("nothing wakes it");
}

/// A sleep without tokio that never ends.
#[derive(Debug)]
struct NoSleep;

impl AsyncSleep for NoSleep {
    fn sleep(&self, _: Duration) -> Sleep {
        Sleep::new(std::future::pending())
    }
}

#[test]
fn without_a_runtime_requests_fetch_themselves() {
    for refresh in [Refresh::Background, Refresh::OnRequest] {
        let (source, wall) = source(HOUR);
        let cell = cell_that_sleeps(&source, refresh, NoSleep);
        assert_eq!(without_a_runtime(request(&cell)).0.unwrap(), "ASIA1");
        assert_eq!(without_a_runtime(request(&cell)).0.unwrap(), "ASIA1");
        // Due: the first request renews.
        wall.set(50 * 60);
        assert_eq!(without_a_runtime(request(&cell)).0.unwrap(), "ASIA2");
        assert_eq!(without_a_runtime(request(&cell)).0.unwrap(), "ASIA2");
        wall.set(3600);
        assert_eq!(without_a_runtime(request(&cell)).0.unwrap(), "ASIA3");
        source.answers(Answer::Failure(down));
        wall.set(3600);
        without_a_runtime(request(&cell)).0.unwrap_err();
        without_a_runtime(request(&cell)).0.unwrap_err();
        assert_eq!(source.calls(), 4);
    }
}

#[test]
fn without_a_runtime_the_next_request_begins_after_one_was_dropped() {
    let (source, _) = source(HOUR);
    source.answers(Answer::Silence);
    let cell = cell_that_sleeps(&source, Refresh::Background, NoSleep);
    {
        let mut dropped = pin!(request(&cell));
        assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(source.open(), 1);
    }
    assert_eq!(source.open(), 0);
    source.answers(Answer::Lasting(HOUR));
    assert_eq!(without_a_runtime(request(&cell)).0.unwrap(), "ASIA2");
}
