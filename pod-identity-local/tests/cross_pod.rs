//! No pod gets another pod's credentials. Many pods and forgers send requests at once over real sockets, and each
//! response is compared with the session that STS recorded.
#![allow(clippy::unwrap_used)]

#[path = "cross_pod/forged_tokens.rs"]
mod forged_tokens;
#[path = "cross_pod/random.rs"]
mod random;
#[path = "cross_pod/clusters.rs"]
mod clusters;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use pod_identity_runtime::clock;
use testing::eventually::eventually;
use testing::wire::{Answer, Connection};

use clusters::{SESSION, TestClusters, TestPod};
use forged_tokens::forge;
use random::Random;
use tokio::sync::watch;

/// The number of requests, and the shares of invalid tokens among them.
#[derive(Clone, Copy)]
struct RequestMix {
    requests: u64,
    /// Number of forged tokens in 1,000 requests.
    forged: usize,
    /// Number of expired tokens in 1,000 requests.
    expired: usize,
    /// One in this number of genuine requests has a new token.
    new_token: usize,
}

/// Half of the tokens are forged.
const ATTACKED: RequestMix = RequestMix { requests: 10_000, forged: 500, expired: 100, new_token: 4 };

/// The usual load of an agent: almost every request has a known token and cached credentials.
const CACHED: RequestMix = RequestMix { requests: 1_000_000, forged: 10, expired: 5, new_token: 200 };

/// Time limit of the long run. An idle machine of two cores needs a fraction of it.
const TIME_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Number of concurrent clients.
const CLIENTS: u64 = 64;

/// Counts responses by kind of token and error code.
#[derive(Default)]
struct ResponseCounts(Mutex<BTreeMap<String, u64>>);

impl ResponseCounts {
    fn count(&self, kind: &str, answer: &Answer) {
        let code = answer.json()["code"].as_str().unwrap_or("credentials").to_owned();
        *self.0.lock().unwrap().entry(format!("{kind}: {code}")).or_default() += 1;
    }

    /// Number of responses to the clients. The counts by key are part of it.
    fn requests(&self) -> u64 {
        self.sum(|outcome| !outcome.starts_with("key "))
    }

    fn of_kind(&self, kind: &str) -> u64 {
        self.sum(|outcome| outcome.starts_with(kind))
    }

    fn sum(&self, counts: impl Fn(&str) -> bool) -> u64 {
        self.0.lock().unwrap().iter().filter(|(outcome, _)| counts(outcome)).map(|(_, number)| number).sum()
    }

    fn of(&self, outcome: &str) -> u64 {
        self.0.lock().unwrap().get(outcome).copied().unwrap_or(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pod_gets_the_credentials_of_another() {
    run(ATTACKED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes, with --release; run it before a release"]
async fn no_pod_gets_the_credentials_of_another_in_a_million_requests() {
    tokio::time::timeout(TIME_LIMIT, run(CACHED)).await.expect("the run ends within the time limit");
}

async fn run(mix: RequestMix) {
    let requests = mix.requests;
    let seed = std::env::var("CROSS_POD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed =
        seed.unwrap_or_else(|| u64::from_le_bytes(*uuid::Uuid::new_v4().as_bytes().first_chunk().unwrap()));
    println!("CROSS_POD_SEED={seed}");
    let clusters = Arc::new(TestClusters::build().await);
    let counts = Arc::new(ResponseCounts::default());
    let begun = clock::monotonic();
    let left = Arc::new(RemainingRequests {
        requests: watch::Sender::new(requests),
        until: clock::monotonic() + RENEWAL,
    });
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let random = Random::seeded(seed.wrapping_add(client));
        clients.spawn(run_client(clusters.clone(), counts.clone(), left.clone(), mix, random));
    }
    let rotating = tokio::spawn(rotate_keys(clusters.clone(), counts.clone(), left.clone(), requests));
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    rotating.await.unwrap();
    assert_sessions_were_replaced(&clusters);

    println!("{:#?}", counts.0.lock().unwrap());
    println!(
        "{} requests, {} with credentials, none of another pod, in {:.1?}",
        counts.requests(),
        counts.of("genuine: credentials"),
        clock::monotonic() - begun
    );
    // The run had at least half of the configured number of each kind, and tokens of every key were accepted.
    let of_thousand = |thousandth: usize| requests * u64::try_from(thousandth).unwrap() / 2000;
    assert!(counts.of("genuine: credentials") > of_thousand(1000 - mix.forged - mix.expired));
    assert!(counts.of_kind("forged") > of_thousand(mix.forged));
    assert!(counts.of("expired: token_expired") > of_thousand(mix.expired) / 2);
    for generation in 0..=ROTATIONS {
        let accepted = counts.of(&format!("key {generation}: credentials"));
        assert!(accepted > 0, "no token of key {generation} was accepted");
    }
}

/// Minimum time of a run: the first sessions end within it.
const RENEWAL: Duration = SESSION.saturating_add(Duration::from_secs(2));

/// The remaining requests. Until `until`, requests continue beyond their number.
struct RemainingRequests {
    requests: watch::Sender<u64>,
    until: Instant,
}

impl RemainingRequests {
    fn take(&self) -> bool {
        let mut taken = false;
        self.requests.send_if_modified(|left| {
            taken = *left > 0;
            *left = left.saturating_sub(1);
            taken
        });
        taken || clock::monotonic() < self.until
    }
}

/// Asserts that most pods have both an expired and a valid session.
fn assert_sessions_were_replaced(clusters: &TestClusters) {
    let now = clock::now();
    let mut sessions: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for session in clusters.services.sts().sessions() {
        let pod = session.tags.value("kubernetes-pod-uid").unwrap().to_owned();
        let expiration: jiff::Timestamp = session.expiration.parse().unwrap();
        let (over, live) = sessions.entry(pod).or_default();
        *(if SystemTime::from(expiration) <= now { over } else { live }) += 1;
    }
    let replaced = sessions.values().filter(|(over, live)| *over > 0 && *live > 0).count();
    println!("{} pods had sessions, {replaced} of them expired and valid ones", sessions.len());
    assert!(replaced > clusters.pods.len() / 2, "{replaced} of {} pods: {sessions:?}", clusters.pods.len());
}

/// Number of new keys of each issuer.
const ROTATIONS: u64 = 3;

/// Rotates the keys of every issuer at equal distances of requests.
async fn rotate_keys(
    clusters: Arc<TestClusters>,
    counts: Arc<ResponseCounts>,
    left: Arc<RemainingRequests>,
    requests: u64,
) {
    for generation in 1..=ROTATIONS {
        let until = requests - requests * generation / (ROTATIONS + 1);
        left.requests.subscribe().wait_for(|left| *left <= until).await.unwrap();
        clusters.rotate_keys();
        let pod = &clusters.pods[0];
        let accepted = eventually("a token of the new key is accepted", || async {
            let answer = get_credentials(&clusters, pod, &clusters.new_token(pod).text).await;
            check_response(&clusters, &answer, pod, pod.cluster, "genuine");
            (answer.status == 200).then_some(answer)
        });
        counts.count(&format!("key {generation}"), &accepted.await);
    }
}

async fn get_credentials(clusters: &TestClusters, pod: &TestPod, token: &str) -> Answer {
    let headers = [("Host", "127.0.0.1"), ("Authorization", token)];
    let mut connection = Connection::open(clusters.agents[pod.cluster]).await.unwrap();
    connection.ask("GET /v1/credentials", &headers, b"").await.unwrap()
}

async fn run_client(
    clusters: Arc<TestClusters>,
    counts: Arc<ResponseCounts>,
    left: Arc<RemainingRequests>,
    mix: RequestMix,
    mut random: Random,
) {
    let mut connections: BTreeMap<usize, Connection> = BTreeMap::new();
    while left.take() {
        let pod = random.one_of(&clusters.pods).clone();
        // One request in 16 goes to the agent of a random cluster.
        let agent = if random.one_in(16) { random.below(clusters.agents.len()) } else { pod.cluster };
        let (kind, token) = match random.below(1000) {
            choice if choice < mix.forged => ("forged", forge(&clusters, &pod, &mut random)),
            choice if choice < mix.forged + mix.expired => ("expired", clusters.expired_token(&pod)),
            _ => ("genuine", clusters.token(&pod, mix.new_token, &mut random)),
        };
        let address = clusters.agents[agent];
        // An agent closes a connection after 5 s without a request. The request is then repeated on a new one.
        let headers = [("Host", "127.0.0.1"), ("Authorization", token.text.as_str())];
        let answer = loop {
            let kept = connections.remove(&agent);
            let fresh = kept.is_none();
            let mut connection = match kept {
                Some(kept) => kept,
                None => Connection::open(address).await.unwrap(),
            };
            match connection.ask("GET /v1/credentials", &headers, b"").await {
                Ok(answer) => {
                    connections.insert(agent, connection);
                    break answer;
                }
                Err(error) => assert!(!fresh, "{kind} on a new connection: {error}"),
            }
        };
        let away = agent != pod.cluster;
        let label = if kind == "genuine" && away { "sent to another cluster's agent" } else { kind };
        counts.count(label, &answer);
        if kind == "genuine" && !away {
            counts.count(&format!("key {}", token.generation), &answer);
        }
        check_response(&clusters, &answer, &pod, agent, label);
    }
}

/// Asserts that only a genuine token at its own cluster's agent gets credentials, and that they belong to a session
/// with the tags of exactly that pod.
fn check_response(clusters: &TestClusters, answer: &Answer, pod: &TestPod, agent: usize, label: &str) {
    let body = answer.json();
    let Some(key) = body["AccessKeyId"].as_str() else {
        assert!(!answer.text().contains("SecretAccessKey"), "{label}: {}", answer.status);
        let code = body["code"].as_str().unwrap_or_default();
        if label == "genuine" {
            // The auth service may not have fetched a new key yet. No other error is allowed.
            assert_eq!(code, "token_key_unknown", "{}", answer.text());
        }
        return;
    };
    assert_eq!(label, "genuine", "credentials for {pod:?} at agent {agent}");
    let session = clusters.services.sts().inspect(key).expect("STS records every session");
    for (tag, expected) in clusters.tags_of(pod) {
        assert_eq!(session.tags.value(tag), Some(expected.as_str()), "{tag} of {session:?} for {pod:?}");
    }
    assert_eq!(session.role_arn, pod.role, "{pod:?}");
    let expiration: jiff::Timestamp = body["Expiration"].as_str().unwrap().parse().unwrap();
    assert!(std::time::SystemTime::from(expiration) > clock::now(), "expired credentials: {expiration}");
}
