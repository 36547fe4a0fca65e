//! Sessions expire and the agent dies while a client runs.

use std::collections::BTreeSet;
use std::time::Duration;

use pod_identity_provider::PodIdentityCredentialsProvider;
use pod_identity_runtime::clock;

use crate::cluster::{Agent, Cluster, arn, environment};

const ROTATIONS: usize = 10;
/// Short, but long enough for a busy machine: when the agent is back, at least three seconds are left.
const SESSION_LIFE: Duration = Duration::from_secs(11);
/// The outage begins with the first use of a session. The provider renews at half of a life or a little later, so nearly
/// every renewal fails at first.
const AGENT_IS_DEAD: Duration = Duration::from_secs(6);
/// On an idle machine the test takes about 65 s.
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
    // The client does not retry: one call without valid credentials fails the test.
    while sessions.len() <= ROTATIONS {
        assert!(started.elapsed() < LIMIT, "{sessions:#?} after {calls} calls");
        // Session names are unique, so the ARN tells sessions apart.
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
        tokio::time::sleep(Duration::from_millis(10)).await; // a busy client
    }
    println!(
        "{calls} calls, {calls_without_agent} of them without an agent, {} sessions in {:?}",
        sessions.len(),
        started.elapsed()
    );
    assert!(calls_without_agent > calls / 4, "{calls_without_agent} of {calls}");
}
