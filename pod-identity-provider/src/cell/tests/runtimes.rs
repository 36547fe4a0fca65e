//! Runtimes that end, runtimes that are not polled, and programs without a runtime.

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
async fn renewal_task_ends_with_the_provider() {
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
async fn with_on_request_no_task_runs_between_fetches() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    settle().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn running_fetch_ends_with_the_provider() {
    // A fetch that a request started.
    let (first, _) = source(HOUR);
    first.set_behavior(Behavior::Hang);
    let provider = cell(&first, Refresh::Background);
    assert!(tokio::time::timeout(SECOND, request(&provider)).await.is_err());
    assert_eq!((first.pending_calls(), tasks()), (1, 1));
    drop(provider);
    settle().await;
    assert_eq!((first.pending_calls(), tasks()), (0, 0));
    // A fetch of the renewal task.
    let (second, _) = source(HOUR);
    let provider = cell(&second, Refresh::Background);
    request(&provider).await.0.unwrap();
    second.set_behavior(Behavior::Hang);
    tokio::time::sleep(50 * MINUTE).await;
    assert_eq!((second.pending_calls(), tasks()), (1, 1));
    drop(provider);
    settle().await;
    assert_eq!((second.pending_calls(), tasks()), (0, 0));
}

#[test]
fn next_runtime_renews_after_the_first_one_has_ended() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    let one = runtime();
    one.block_on(request(&cell)).0.unwrap();
    drop(one);
    wall.advance(50 * 60);
    runtime().block_on(async {
        let (result, took) = request(&cell).await;
        assert_eq!((result.unwrap().as_str(), took), ("ASIA1", Duration::ZERO));
        settle().await;
        assert_eq!((source.calls(), tasks()), (2, 1));
        tokio::time::sleep(10 * HOUR).await;
        assert_eq!(request(&cell).await.1, Duration::ZERO);
    });
}

#[test]
fn fetch_starts_again_after_its_runtime_has_ended() {
    let (source, _) = source(HOUR);
    source.set_behavior(Behavior::Hang);
    let cell = cell(&source, Refresh::Background);
    let one = runtime();
    one.block_on(async { assert!(tokio::time::timeout(SECOND, request(&cell)).await.is_err()) });
    drop(one);
    assert_eq!(source.pending_calls(), 0);
    source.set_behavior(Behavior::ExpireAfter(HOUR));
    let (result, took) = runtime().block_on(request(&cell));
    assert_eq!((result.unwrap().as_str(), took), ("ASIA2", Duration::ZERO));
}

#[test]
fn request_fails_after_three_fetches_ended_with_their_runtimes() {
    let (source, _) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    let mut waiting = pin!(cell.credentials());
    let context = &mut Context::from_waker(Waker::noop());
    for _ in 0..3 {
        // The fetch is a task of a runtime that is dropped without being polled.
        let idle_runtime = runtime();
        let _guard = idle_runtime.enter();
        assert!(waiting.as_mut().poll(context).is_pending());
    }
    let Poll::Ready(Err(error)) = waiting.as_mut().poll(context) else { panic!("the request still waits") };
    assert!(matches!(error, Error::Runtime(_)) && error.is_retryable(), "{error}");
    assert_eq!(source.calls(), 0);
    // The next request succeeds.
    assert_eq!(runtime().block_on(request(&cell)).0.unwrap(), "ASIA1");
}

#[test]
fn fetch_on_an_idle_runtime_delays_requests_by_at_most_the_deadline() {
    let (source, _) = source(HOUR);
    source.set_latency(2 * SECOND);
    let cell = cell(&source, Refresh::Background);
    let idle_runtime = runtime();
    idle_runtime.block_on(async { assert!(tokio::time::timeout(SECOND, request(&cell)).await.is_err()) });
    let (result, took) = runtime().block_on(async {
        let (first, second) = tokio::join!(request(&cell), request(&cell));
        assert_eq!(first.0.as_ref().unwrap(), second.0.as_ref().unwrap());
        first
    });
    assert_eq!((result.unwrap().as_str(), took), ("ASIA2", DEADLINE + SECOND + 2 * SECOND));
    assert_eq!(source.calls(), 2);
    // The late result of the first fetch is discarded.
    idle_runtime.block_on(async { tokio::time::sleep(MINUTE).await });
    assert_eq!((cell.valid_credentials().unwrap().access_key_id(), source.pending_calls()), ("ASIA2", 0));
}

#[test]
fn requests_renew_if_the_renewal_task_is_on_an_idle_runtime() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::Background);
    let idle_runtime = runtime();
    idle_runtime.block_on(request(&cell)).0.unwrap();
    wall.advance(50 * 60);
    let other = runtime();
    other.block_on(async {
        assert_eq!(request(&cell).await.0.unwrap(), "ASIA1");
        settle().await;
        assert_eq!(request(&cell).await.0.unwrap(), "ASIA2");
    });
}

#[test]
fn renewal_on_an_idle_runtime_is_repeated_on_another_one_before_expiry() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    let idle_runtime = runtime();
    idle_runtime.block_on(request(&cell)).0.unwrap();
    // The credentials are due. The request starts a fetch in a task that is never polled.
    wall.advance(50 * 60);
    assert_eq!(idle_runtime.block_on(request(&cell)).0.unwrap(), "ASIA1");
    let other = runtime();
    other.block_on(assert_served_without_waiting(&cell, DEADLINE + 5 * SECOND));
    assert_eq!(source.calls(), 2);
    assert_eq!(other.block_on(request(&cell)).0.unwrap(), "ASIA2");
}

#[tokio::test(start_paused = true)]
async fn request_does_not_wait_for_an_overdue_fetch() {
    let (source, wall) = source(HOUR);
    let cell = cell(&source, Refresh::OnRequest);
    request(&cell).await.0.unwrap();
    // The process is frozen during a renewal, until after expiry.
    source.set_behavior(Behavior::Hang);
    wall.advance(50 * 60);
    request(&cell).await.0.unwrap();
    settle().await;
    assert_eq!(source.pending_calls(), 1);
    tokio::time::advance(20 * MINUTE).await;
    source.set_behavior(Behavior::ExpireAfter(HOUR));
    let (result, took) = request(&cell).await;
    assert_eq!((result.unwrap().as_str(), took), ("ASIA3", Duration::ZERO));
}

/// Runs a future without a runtime, and polls it when it is woken.
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
    panic!("the future is pending and was not woken");
}

/// A sleep implementation without a runtime. Its sleeps never end.
#[derive(Debug)]
struct NoSleep;

impl AsyncSleep for NoSleep {
    fn sleep(&self, _: Duration) -> Sleep {
        Sleep::new(std::future::pending())
    }
}

#[test]
fn without_a_runtime_requests_wait_for_their_own_fetch() {
    for refresh in [Refresh::Background, Refresh::OnRequest] {
        let (source, wall) = source(HOUR);
        let cell = cell_with_sleep(&source, refresh, NoSleep);
        assert_eq!(without_a_runtime(request(&cell)).0.unwrap(), "ASIA1");
        assert_eq!(without_a_runtime(request(&cell)).0.unwrap(), "ASIA1");
        // The credentials are due, and the first request renews them.
        wall.advance(50 * 60);
        assert_eq!(without_a_runtime(request(&cell)).0.unwrap(), "ASIA2");
        assert_eq!(without_a_runtime(request(&cell)).0.unwrap(), "ASIA2");
        wall.advance(3600);
        assert_eq!(without_a_runtime(request(&cell)).0.unwrap(), "ASIA3");
        source.set_behavior(Behavior::Fail(agent_down));
        wall.advance(3600);
        without_a_runtime(request(&cell)).0.unwrap_err();
        without_a_runtime(request(&cell)).0.unwrap_err();
        assert_eq!(source.calls(), 4);
    }
}

#[test]
fn without_a_runtime_the_next_request_fetches_after_one_was_dropped() {
    let (source, _) = source(HOUR);
    source.set_behavior(Behavior::Hang);
    let cell = cell_with_sleep(&source, Refresh::Background, NoSleep);
    {
        let mut dropped = pin!(request(&cell));
        assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(source.pending_calls(), 1);
    }
    assert_eq!(source.pending_calls(), 0);
    source.set_behavior(Behavior::ExpireAfter(HOUR));
    assert_eq!(without_a_runtime(request(&cell)).0.unwrap(), "ASIA2");
}
