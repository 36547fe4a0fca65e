//! Renewals of short sessions while the agent is killed and restarted.

use std::collections::BTreeSet;
use std::time::Duration;

use pod_identity_provider::PodIdentityCredentialsProvider;
use pod_identity_runtime::clock;

use crate::cluster::{Agent, Cluster, arn, environment};

const ROTATIONS: usize = 10;
/// Short, but long enough for a busy machine: at least three seconds remain when the agent has restarted.
const SESSION_LIFETIME: Duration = Duration::from_secs(11);
/// The duration of an outage, which begins with the first use of a session. The provider renews halfway through the
/// lifetime or slightly later, so nearly every first renewal fails.
const OUTAGE: Duration = Duration::from_secs(6);
/// The time limit of the test. On an idle machine it takes about 65 s.
const LIMIT: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_during_ten_rotations_with_outages_of_the_agent() {
    let cluster = Cluster::start(Some(SESSION_LIFETIME)).await;
    let mut agent = Agent::start(&cluster).await;
    let variables = environment(cluster.pod_identity(&agent.url()));
    let provider = PodIdentityCredentialsProvider::builder().environment(variables).build();
    let client = cluster.client(&provider);

    let started = clock::monotonic();
    let mut outage_since = None;
    let (mut sessions, mut calls, mut calls_without_agent) = (BTreeSet::new(), 0, 0);
    // The client does not retry, so one call without valid credentials fails the test.
    while sessions.len() <= ROTATIONS {
        assert!(started.elapsed() < LIMIT, "{sessions:#?} after {calls} calls");
        // Session names are unique, and the ARN contains the session name.
        let arn = arn(&client).await;
        assert!(arn.starts_with("arn:aws:sts::111122223333:assumed-role/app/eks-laptop-app-1-"), "{arn}");
        calls += 1;
        calls_without_agent += u32::from(outage_since.is_some());
        if sessions.insert(arn) {
            agent.kill().await;
            outage_since = Some(clock::monotonic());
        } else if outage_since.is_some_and(|since| since.elapsed() > OUTAGE) {
            agent.restart().await;
            outage_since = None;
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
