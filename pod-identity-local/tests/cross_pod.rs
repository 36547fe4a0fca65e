//! Never one pod's credentials for another: many pods, forgers among them, all at once, over real
//! sockets, with what STS remembers of each session as the judge.
#![allow(clippy::unwrap_used)]

#[path = "cross_pod/forgers.rs"]
mod forgers;
#[path = "cross_pod/random.rs"]
mod random;
#[path = "cross_pod/town.rs"]
mod town;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use pod_identity_runtime::clock;
use testing::eventually::eventually;
use testing::wire::{Answer, Connection};

use forgers::forge;
use random::Random;
use tokio::sync::watch;
use town::{Resident, SESSION, Town};

/// What is asked, and how often.
#[derive(Clone, Copy)]
struct Mix {
    requests: u64,
    /// Of a thousand requests.
    forged: usize,
    expired: usize,
    /// Of so many genuine requests one comes with a new token.
    new_token: usize,
}

/// Every way to go wrong, often.
const ATTACKED: Mix = Mix { requests: 10_000, forged: 500, expired: 100, new_token: 4 };

/// What an agent sees on a node: nearly always a known token and credentials that are there.
const CACHED: Mix = Mix { requests: 1_000_000, forged: 10, expired: 5, new_token: 200 };

/// How long the long run may take. On an idle machine of two cores it is a fraction of that.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// Connections at once.
const CLIENTS: u64 = 64;

/// What became of the requests, to see that nothing was tested in vain.
#[derive(Default)]
struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    fn count(&self, kind: &str, answer: &Answer) {
        let code = answer.json()["code"].as_str().unwrap_or("credentials").to_owned();
        *self.0.lock().unwrap().entry(format!("{kind}: {code}")).or_default() += 1;
    }

    /// All answers to the clients; a key's are counted among them already.
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
async fn no_pod_ever_gets_the_credentials_of_another() {
    run(ATTACKED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes, with --release; run it before a release"]
async fn no_pod_ever_gets_the_credentials_of_another_in_a_million_requests() {
    tokio::time::timeout(PATIENCE, run(CACHED)).await.expect("it took too long");
}

async fn run(mix: Mix) {
    let requests = mix.requests;
    let seed = std::env::var("CROSS_POD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed =
        seed.unwrap_or_else(|| u64::from_le_bytes(*uuid::Uuid::new_v4().as_bytes().first_chunk().unwrap()));
    println!("CROSS_POD_SEED={seed}");
    let town = Arc::new(Town::build().await);
    let tally = Arc::new(Tally::default());
    let begun = clock::monotonic();
    let left = Arc::new(Left { requests: watch::Sender::new(requests), until: clock::monotonic() + RENEWAL });
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let random = Random::seeded(seed.wrapping_add(client));
        clients.spawn(be_many_pods(town.clone(), tally.clone(), left.clone(), mix, random));
    }
    let rotating = tokio::spawn(rotate_keys(town.clone(), tally.clone(), left.clone(), requests));
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    rotating.await.unwrap();
    assert_sessions_were_replaced(&town);

    println!("{:#?}", tally.0.lock().unwrap());
    println!(
        "{} requests, {} with credentials, none of another pod, in {:.1?}",
        tally.requests(),
        tally.of("genuine: credentials"),
        clock::monotonic() - begun
    );
    // Nothing was tested in vain: there were as many of each kind as the mix says, give or take half,
    // and every key that ever signed was accepted.
    let of_thousand = |thousandth: usize| requests * u64::try_from(thousandth).unwrap() / 2000;
    assert!(tally.of("genuine: credentials") > of_thousand(1000 - mix.forged - mix.expired));
    assert!(tally.of_kind("forged") > of_thousand(mix.forged));
    assert!(tally.of("expired: token_expired") > of_thousand(mix.expired) / 2);
    for generation in 0..=ROTATIONS {
        let accepted = tally.of(&format!("key {generation}: credentials"));
        assert!(accepted > 0, "no token of key {generation} was accepted");
    }
}

/// Until when requests go on at least, that the first sessions end among them.
const RENEWAL: Duration = SESSION.saturating_add(Duration::from_secs(2));

/// The requests that are left, and until when there are more all the same.
struct Left {
    requests: watch::Sender<u64>,
    until: Instant,
}

impl Left {
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

/// Pods whose first session ended went on with another: a session of theirs is over, one is not.
fn assert_sessions_were_replaced(town: &Town) {
    let now = clock::now();
    let mut sessions: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for session in town.laptop.sts().sessions() {
        let pod = session.tags.value("kubernetes-pod-uid").unwrap().to_owned();
        let expiration: jiff::Timestamp = session.expiration.parse().unwrap();
        let (over, live) = sessions.entry(pod).or_default();
        *(if SystemTime::from(expiration) <= now { over } else { live }) += 1;
    }
    let replaced = sessions.values().filter(|(over, live)| *over > 0 && *live > 0).count();
    println!("{} pods had sessions, {replaced} of them ended and new ones", sessions.len());
    assert!(replaced > town.pods.len() / 2, "{replaced} of {} pods: {sessions:?}", town.pods.len());
}

/// How often each issuer gets a new key.
const ROTATIONS: u64 = 3;

/// Gives every issuer a new key from time to time, and takes the oldest away.
async fn rotate_keys(town: Arc<Town>, tally: Arc<Tally>, left: Arc<Left>, requests: u64) {
    for generation in 1..=ROTATIONS {
        let until = requests - requests * generation / (ROTATIONS + 1);
        left.requests.subscribe().wait_for(|left| *left <= until).await.unwrap();
        town.rotate_keys();
        let pod = &town.pods[0];
        let accepted = eventually("a token of the new key is accepted", || async {
            let answer = ask(&town, pod, &town.new_token(pod).text).await;
            judge(&town, &answer, pod, pod.cluster, "genuine");
            (answer.status == 200).then_some(answer)
        });
        tally.count(&format!("key {generation}"), &accepted.await);
    }
}

async fn ask(town: &Town, pod: &Resident, token: &str) -> Answer {
    let headers = [("Host", "127.0.0.1"), ("Authorization", token)];
    let mut connection = Connection::open(town.agents[pod.cluster]).await.unwrap();
    connection.ask("GET /v1/credentials", &headers, b"").await.unwrap()
}

async fn be_many_pods(town: Arc<Town>, tally: Arc<Tally>, left: Arc<Left>, mix: Mix, mut random: Random) {
    let mut connections: BTreeMap<usize, Connection> = BTreeMap::new();
    while left.take() {
        let pod = random.one_of(&town.pods).clone();
        // The pod asks its own cluster's agent, or, one time in sixteen, another's.
        let agent = if random.one_in(16) { random.below(town.agents.len()) } else { pod.cluster };
        let (kind, token) = match random.below(1000) {
            choice if choice < mix.forged => ("forged", forge(&town, &pod, &mut random)),
            choice if choice < mix.forged + mix.expired => ("expired", town.expired_token(&pod)),
            _ => ("genuine", town.token(&pod, mix.new_token, &mut random)),
        };
        let address = town.agents[agent];
        // An agent closes a connection that was idle for 5 s: then on a new one.
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
        tally.count(label, &answer);
        if kind == "genuine" && !away {
            tally.count(&format!("key {}", token.generation), &answer);
        }
        judge(&town, &answer, &pod, agent, label);
    }
}

/// The rule: credentials only for a genuine token at its own cluster's agent, and then of a session
/// that names exactly that pod.
fn judge(town: &Town, answer: &Answer, pod: &Resident, agent: usize, label: &str) {
    let body = answer.json();
    let Some(key) = body["AccessKeyId"].as_str() else {
        assert!(!answer.text().contains("SecretAccessKey"), "{label}: {}", answer.status);
        let code = body["code"].as_str().unwrap_or_default();
        if label == "genuine" {
            // Just rotated keys are learned when the auth service looks; nothing else may fail.
            assert_eq!(code, "token_key_unknown", "{}", answer.text());
        }
        return;
    };
    assert_eq!(label, "genuine", "credentials for {pod:?} at agent {agent}");
    let session = town.laptop.sts().inspect(key).expect("STS knows every session it made");
    for (tag, expected) in town.tags_of(pod) {
        assert_eq!(session.tags.value(tag), Some(expected.as_str()), "{tag} of {session:?} for {pod:?}");
    }
    assert_eq!(session.role_arn, pod.role, "{pod:?}");
    let expiration: jiff::Timestamp = body["Expiration"].as_str().unwrap().parse().unwrap();
    assert!(std::time::SystemTime::from(expiration) > clock::now(), "expired credentials: {expiration}");
}
