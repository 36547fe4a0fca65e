//! Sessions end, and the agent dies, while a client runs.

use std::collections::BTreeSet;
use std::time::Duration;

use pod_identity_provider::PodIdentityCredentialsProvider;
use pod_identity_runtime::clock;

use crate::cluster::{Agent, Cluster, arn, environment};

const ROTATIONS: usize = 10;
/// In real time, and short, but long enough for a machine that is busy: when the agent is there again, three seconds are
/// left and more, in whatever part of a second the session began.
const SESSION_LIFE: Duration = Duration::from_secs(11);
/// From a session's first use on. The provider renews after half of a life or a little later, and STS's times are whole
/// seconds: nearly every renewal meets no agent at first.
const AGENT_IS_DEAD: Duration = Duration::from_secs(6);
/// Some 65 s are enough where nothing else runs, and each session lasts 11 s at most.
const LIMIT: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_across_ten_rotations_while_the_agent_is_killed_and_started_again() {
    let cluster = Cluster::start(Some(SESSION_LIFE)).await;
    let mut agent = Agent::start(&cluster).await;
    let variables = environment(cluster.pod_identity(&agent.url()));
    let provider = PodIdentityCredentialsProvider::builder().environment(variables).build();
    let client = cluster.client(&provider);

    let started = clock::monotonic();
    let mut dead_since = None;
    let (mut sessions, mut calls, mut calls_without_agent) = (BTreeSet::new(), 0, 0);
    // The client repeats nothing: one call without good credentials is the test's end.
    while sessions.len() <= ROTATIONS {
        assert!(started.elapsed() < LIMIT, "{sessions:#?} after {calls} calls");
        // A session's name has a part of its own, so the ARN tells sessions apart.
        let arn = arn(&client).await;
        assert!(arn.starts_with("arn:aws:sts::111122223333:assumed-role/app/eks-laptop-app-1-"), "{arn}");
        calls += 1;
        calls_without_agent += u32::from(dead_since.is_some());
        if sessions.insert(arn) {
            agent.kill().await;
            dead_since = Some(clock::monotonic());
        } else if dead_since.is_some_and(|since| since.elapsed() > AGENT_IS_DEAD) {
            agent.revive().await;
            dead_since = None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await; // a busy client, and no flood
    }
    println!(
        "{calls} calls, {calls_without_agent} of them without an agent, {} sessions in {:?}",
        sessions.len(),
        started.elapsed()
    );
    assert!(calls_without_agent > calls / 4, "{calls_without_agent} of {calls}");
}
