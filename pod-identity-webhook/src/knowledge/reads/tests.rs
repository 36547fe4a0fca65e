use std::collections::VecDeque;

use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::*;

/// A source that takes as long as it is told, one duration for each read, and finds the moment at which the
/// read began, in milliseconds.
struct Script {
    start: Instant,
    takes: Mutex<VecDeque<u64>>,
    began: Mutex<Vec<(&'static str, u64)>>,
}

impl Source for Script {
    type Key = &'static str;
    type Found = u64;

    async fn read(&self, key: &&'static str) -> Outcome<u64> {
        let began = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        self.began.lock().unwrap().push((key, began));
        let takes = self.takes.lock().unwrap().pop_front().expect("no more reads were expected");
        match takes {
            BREAKS => panic!("as the script says"),
            takes => sleep(Duration::from_millis(takes)).await,
        }
        Ok(began)
    }
}

/// A read that breaks off.
const BREAKS: u64 = u64::MAX;

struct Stage {
    reads: Arc<SharedReads<Script>>,
    registry: Registry,
}

impl Stage {
    fn with(takes: &[u64]) -> Self {
        let mut registry = Registry::default();
        let metrics = ReadMetrics::register(&mut registry).of("service_account");
        let takes = Mutex::new(takes.iter().copied().collect());
        let script = Script { start: Instant::now(), takes, began: Mutex::default() };
        Self { reads: SharedReads::new(script, metrics), registry }
    }

    /// A review that arrives when the script is so many milliseconds old: what it got, and when.
    fn review(&self, key: &'static str, arrives: u64) -> JoinHandle<(Outcome<u64>, u64)> {
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

    /// Waits until every read has ended, and looks whether anything is left of them.
    async fn is_left_empty(&self) {
        sleep(3 * DEADLINE).await;
        assert!(self.reads.flights().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_read_under_way_and_one_that_all_others_share() {
    let stage = Stage::with(&[20, 20]);
    let reviews: Vec<_> = (0..64).map(|_| stage.review("app", 0)).collect();
    let late: Vec<_> = (0..64).map(|number| stage.review("app", 1 + number % 19)).collect();
    for (number, review) in reviews.into_iter().chain(late).enumerate() {
        let expected = if number == 0 { (Ok(0), 20) } else { (Ok(20), 40) };
        assert_eq!(review.await.unwrap(), expected, "review {number}");
    }
    assert_eq!(stage.began(), [0, 20]);
    stage.is_left_empty().await;
}

#[tokio::test(start_paused = true)]
async fn the_read_that_waits_begins_after_a_tenth_of_a_second_beside_a_slow_one() {
    let stage = Stage::with(&[900, 30, 30]);
    let first = stage.review("app", 0);
    let second = stage.review("app", 10);
    let joins = stage.review("app", 109);
    let third = stage.review("app", 120); // while two are under way
    assert_eq!(second.await.unwrap(), (Ok(110), 140));
    assert_eq!(joins.await.unwrap(), (Ok(110), 140));
    assert_eq!(third.await.unwrap(), (Ok(140), 170), "it waits for either of the two");
    assert_eq!(first.await.unwrap(), (Ok(0), 900));
    stage.is_left_empty().await;
}

#[tokio::test(start_paused = true)]
async fn no_review_is_answered_by_a_read_that_began_before_it() {
    let stage = Stage::with(&[7; 200]);
    let reviews: Vec<_> = (0..300).map(|number| (number, stage.review("app", number))).collect();
    for (arrives, review) in reviews {
        let (found, _) = review.await.unwrap();
        assert!(found.clone().unwrap() >= arrives, "{arrives}: {found:?}");
    }
    // One after the other, and no two at once.
    let began = stage.began();
    assert!(began.windows(2).all(|pair| pair[1] - pair[0] >= 7), "{began:?}");
    assert!(began.len() <= 300 / 7 + 2, "{} reads", began.len());
    stage.is_left_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_from_the_arrival_on_is_the_longest_that_a_review_waits() {
    let stage = Stage::with(&[5000, 980, 5000]);
    let first = stage.review("app", 0);
    let second = stage.review("app", 40); // its read begins at 140, and ends at 1120
    let third = stage.review("app", 150); // its read begins at 250, and never ends
    assert_eq!(first.await.unwrap(), (Err(ReadFailure::Deadline), 1000));
    assert_eq!(second.await.unwrap(), (Err(ReadFailure::Deadline), 1040));
    assert_eq!(third.await.unwrap(), (Err(ReadFailure::Deadline), 1150));
    stage.is_left_empty().await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &stage.registry).unwrap();
    let reads = |result: &str, count: u32| {
        let line =
            format!(r#"pod_identity_api_reads_total{{object="service_account",result="{result}"}} {count}"#);
        assert!(text.contains(&line), "{text}");
    };
    reads("ok", 1);
    reads("deadline", 2);
}

#[tokio::test(start_paused = true)]
async fn a_review_that_hangs_up_ends_nothing_for_the_others() {
    let stage = Stage::with(&[50, 50]);
    let first = stage.review("app", 0);
    let maker = stage.review("app", 10); // makes the read that waits
    let joins = stage.review("app", 20);
    sleep(Duration::from_millis(30)).await;
    first.abort();
    maker.abort();
    assert_eq!(joins.await.unwrap(), (Ok(50), 100));
    assert_eq!(stage.began(), [0, 50]);
    stage.is_left_empty().await;
}

#[tokio::test(start_paused = true)]
async fn accounts_do_not_wait_for_each_other() {
    let stage = Stage::with(&[900, 10]);
    let slow = stage.review("slow", 0);
    let other = stage.review("other", 1);
    assert_eq!(other.await.unwrap(), (Ok(1), 11));
    assert_eq!(slow.await.unwrap(), (Ok(0), 900));
    stage.is_left_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_read_that_breaks_off_is_followed_by_the_next_one() {
    let stage = Stage::with(&[BREAKS, 10, 10]);
    let (first, second) = (stage.review("app", 0), stage.review("app", 0));
    assert!(matches!(first.await.unwrap(), (Err(ReadFailure::Api(ApiFailure::Answer(_))), 0)));
    assert_eq!(second.await.unwrap(), (Ok(0), 10));
    advance(Duration::from_millis(5)).await;
    assert_eq!(stage.review("app", 20).await.unwrap(), (Ok(20), 30));
    stage.is_left_empty().await;
}

/// A review of a key of its own, by a peer.
fn of_peer(stage: &Stage, peer: Option<IpAddr>, number: usize) -> JoinHandle<Outcome<u64>> {
    let key: &'static str = Box::leak(format!("{peer:?}-{number}").into_boxed_str());
    let (reads, deadline) = (stage.reads.clone(), Instant::now() + DEADLINE);
    tokio::spawn(async move { reads.read(key, peer, deadline).await })
}

async fn busy(reviews: Vec<JoinHandle<Outcome<u64>>>) -> usize {
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
async fn a_peer_that_floods_begins_its_share_of_reads_and_another_still_reads() {
    let stage = Stage::with(&[0; 250]);
    let (flood, api_server) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
    let flooding = (0..1_000).map(|number| of_peer(&stage, flood, number)).collect();
    assert_eq!(busy(flooding).await, 800);
    let of_others = (0..25).flat_map(|number| [api_server, None].map(|peer| of_peer(&stage, peer, number)));
    assert_eq!(busy(of_others.collect()).await, 0);
    stage.is_left_empty().await;
}

#[tokio::test(start_paused = true)]
async fn reads_of_all_keys_run_within_one_bound_and_wait_half_a_second_for_it() {
    let stage = Stage::with(&[150; 4 * AT_ONCE]);
    let reviews = (0..5 * AT_ONCE).map(|number| of_peer(&stage, None, number)).collect();
    assert_eq!(busy(reviews).await, AT_ONCE);
    for (turn, began) in [0, 150, 300, 450].into_iter().enumerate() {
        assert_eq!(stage.began()[turn * AT_ONCE..][..AT_ONCE], [began; AT_ONCE]);
    }
    stage.is_left_empty().await;
}
