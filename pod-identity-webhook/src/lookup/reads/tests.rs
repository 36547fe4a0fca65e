use std::collections::VecDeque;

use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::*;
use crate::lookup::metrics::ReadMetrics;

/// A source whose reads take the given durations. A read returns the time at which it began, in milliseconds.
struct ScriptedSource {
    start: Instant,
    takes: Mutex<VecDeque<u64>>,
    began: Mutex<Vec<(&'static str, u64)>>,
}

impl Source for ScriptedSource {
    type Key = &'static str;
    type Found = u64;

    async fn read(&self, key: &&'static str) -> ReadResult<u64> {
        let began = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        self.began.lock().unwrap().push((key, began));
        let takes = self.takes.lock().unwrap().pop_front().expect("no more reads were expected");
        match takes {
            PANICS => panic!("a panic of the test"),
            takes => sleep(Duration::from_millis(takes)).await,
        }
        Ok(began)
    }
}

/// The duration of a read that panics.
const PANICS: u64 = u64::MAX;

struct Fixture {
    reads: Arc<SharedReads<ScriptedSource>>,
    registry: Registry,
}

impl Fixture {
    fn with(takes: &[u64]) -> Self {
        let mut registry = Registry::default();
        let metrics = ReadMetrics::register(&mut registry).of("service_account");
        let takes = Mutex::new(takes.iter().copied().collect());
        let script = ScriptedSource { start: Instant::now(), takes, began: Mutex::default() };
        Self { reads: SharedReads::new(script, metrics), registry }
    }

    /// Sends a review after `arrives` milliseconds. Returns its result and the time of the result.
    fn review(&self, key: &'static str, arrives: u64) -> JoinHandle<(ReadResult<u64>, u64)> {
        let (reads, start) = (self.reads.clone(), self.reads.source.start);
        tokio::spawn(async move {
            let arrived = start + Duration::from_millis(arrives);
            tokio::time::sleep_until(arrived).await;
            let found = reads.read(key, None, arrived + DEADLINE).await;
            (found, u64::try_from(start.elapsed().as_millis()).unwrap())
        })
    }

    fn began(&self) -> Vec<u64> {
        self.reads.source.began.lock().unwrap().iter().map(|(_, began)| *began).collect()
    }

    /// Checks that no entry is left after every read has ended.
    async fn assert_empty_at_the_end(&self) {
        sleep(3 * DEADLINE).await;
        assert!(self.reads.flights().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_causes_one_running_read_and_one_shared_pending_read() {
    let fixture = Fixture::with(&[20, 20]);
    let reviews: Vec<_> = (0..64).map(|_| fixture.review("app", 0)).collect();
    let late: Vec<_> = (0..64).map(|number| fixture.review("app", 1 + number % 19)).collect();
    for (number, review) in reviews.into_iter().chain(late).enumerate() {
        let expected = if number == 0 { (Ok(0), 20) } else { (Ok(20), 40) };
        assert_eq!(review.await.unwrap(), expected, "review {number}");
    }
    assert_eq!(fixture.began(), [0, 20]);
    fixture.assert_empty_at_the_end().await;
}

#[tokio::test(start_paused = true)]
async fn begins_the_pending_read_after_100_ms_beside_a_slow_one() {
    let fixture = Fixture::with(&[900, 30, 30]);
    let first = fixture.review("app", 0);
    let second = fixture.review("app", 10);
    let joins = fixture.review("app", 109);
    let third = fixture.review("app", 120); // while two reads run
    assert_eq!(second.await.unwrap(), (Ok(110), 140));
    assert_eq!(joins.await.unwrap(), (Ok(110), 140));
    assert_eq!(third.await.unwrap(), (Ok(140), 170), "the third read begins when one of the two ends");
    assert_eq!(first.await.unwrap(), (Ok(0), 900));
    fixture.assert_empty_at_the_end().await;
}

#[tokio::test(start_paused = true)]
async fn gives_no_review_a_read_that_began_before_it() {
    let fixture = Fixture::with(&[7; 200]);
    let reviews: Vec<_> = (0..300).map(|number| (number, fixture.review("app", number))).collect();
    for (arrives, review) in reviews {
        let (found, _) = review.await.unwrap();
        assert!(found.clone().unwrap() >= arrives, "{arrives}: {found:?}");
    }
    // No two reads run at once.
    let began = fixture.began();
    assert!(began.windows(2).all(|pair| pair[1] - pair[0] >= 7), "{began:?}");
    assert!(began.len() <= 300 / 7 + 2, "{} reads", began.len());
    fixture.assert_empty_at_the_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_review_waits_one_second_from_its_arrival_at_most() {
    let fixture = Fixture::with(&[5000, 980, 5000]);
    let first = fixture.review("app", 0);
    let second = fixture.review("app", 40); // its read begins at 140, and ends at 1120
    let third = fixture.review("app", 150); // its read begins at 250, and never ends
    assert_eq!(first.await.unwrap(), (Err(ReadFailure::Deadline), 1000));
    assert_eq!(second.await.unwrap(), (Err(ReadFailure::Deadline), 1040));
    assert_eq!(third.await.unwrap(), (Err(ReadFailure::Deadline), 1150));
    fixture.assert_empty_at_the_end().await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &fixture.registry).unwrap();
    let reads = |result: &str, count: u32| {
        let line =
            format!(r#"pod_identity_api_reads_total{{object="service_account",result="{result}"}} {count}"#);
        assert!(text.contains(&line), "{text}");
    };
    reads("ok", 1);
    reads("deadline", 2);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_review_ends_no_read_of_others() {
    let fixture = Fixture::with(&[50, 50]);
    let first = fixture.review("app", 0);
    let second = fixture.review("app", 10); // creates the pending read
    let joins = fixture.review("app", 20);
    sleep(Duration::from_millis(30)).await;
    first.abort();
    second.abort();
    assert_eq!(joins.await.unwrap(), (Ok(50), 100));
    assert_eq!(fixture.began(), [0, 50]);
    fixture.assert_empty_at_the_end().await;
}

#[tokio::test(start_paused = true)]
async fn reads_of_different_keys_do_not_wait_for_each_other() {
    let fixture = Fixture::with(&[900, 10]);
    let slow = fixture.review("slow", 0);
    let other = fixture.review("other", 1);
    assert_eq!(other.await.unwrap(), (Ok(1), 11));
    assert_eq!(slow.await.unwrap(), (Ok(0), 900));
    fixture.assert_empty_at_the_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_read_that_panics_is_followed_by_the_pending_one() {
    let fixture = Fixture::with(&[PANICS, 10, 10]);
    let (first, second) = (fixture.review("app", 0), fixture.review("app", 0));
    assert!(matches!(first.await.unwrap(), (Err(ReadFailure::Api(ApiFailure::Answer(_))), 0)));
    assert_eq!(second.await.unwrap(), (Ok(0), 10));
    advance(Duration::from_millis(5)).await;
    assert_eq!(fixture.review("app", 20).await.unwrap(), (Ok(20), 30));
    fixture.assert_empty_at_the_end().await;
}

/// Sends a review of a peer with a unique key.
fn review_of_peer(fixture: &Fixture, peer: Option<IpAddr>, number: usize) -> JoinHandle<ReadResult<u64>> {
    let key: &'static str = Box::leak(format!("{peer:?}-{number}").into_boxed_str());
    let (reads, deadline) = (fixture.reads.clone(), Instant::now() + DEADLINE);
    tokio::spawn(async move { reads.read(key, peer, deadline).await })
}

/// Returns the number of reviews that got no read.
async fn count_busy(reviews: Vec<JoinHandle<ReadResult<u64>>>) -> usize {
    let mut busy = 0;
    for review in reviews {
        match review.await.unwrap() {
            Ok(_) => {}
            Err(ReadFailure::Busy) => busy += 1,
            Err(other) => panic!("{other}"),
        }
    }
    busy
}

#[tokio::test(start_paused = true)]
async fn limits_the_reads_of_one_peer_and_serves_another() {
    let fixture = Fixture::with(&[0; 250]);
    let (flood, api_server) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
    let reviews = (0..1_000).map(|number| review_of_peer(&fixture, flood, number)).collect();
    assert_eq!(count_busy(reviews).await, 800);
    let others =
        (0..25).flat_map(|number| [api_server, None].map(|peer| review_of_peer(&fixture, peer, number)));
    assert_eq!(count_busy(others.collect()).await, 0);
    fixture.assert_empty_at_the_end().await;
}

#[tokio::test(start_paused = true)]
async fn bounds_concurrent_reads_and_their_wait() {
    let fixture = Fixture::with(&[150; 4 * MAX_RUNNING]);
    let reviews = (0..5 * MAX_RUNNING).map(|number| review_of_peer(&fixture, None, number)).collect();
    assert_eq!(count_busy(reviews).await, MAX_RUNNING);
    for (turn, began) in [0, 150, 300, 450].into_iter().enumerate() {
        assert_eq!(fixture.began()[turn * MAX_RUNNING..][..MAX_RUNNING], [began; MAX_RUNNING]);
    }
    fixture.assert_empty_at_the_end().await;
}
