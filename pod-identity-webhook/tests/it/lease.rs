//! The Lease, on a real API server.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use pod_identity_runtime::clock::Clock;
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use pod_identity_webhook::lease::{DURATION, Election, Leadership, PERIOD};
use serde_json::json;
use testing::cluster::{Cluster, namespace};
use testing::eventually::eventually;

fn candidate(client: &Client, identity: &str, clock: &Clock) -> (Leadership, Ender) {
    let election = Election::new(client.clone(), "election", "leader", identity.to_owned(), clock.clone());
    let (leadership, (ender, ending)) = (election.leadership(), Shutdown::manual());
    tokio::spawn(election.follow(ending));
    (leadership, ender)
}

#[test]
fn a_lease_is_held_by_one_given_back_at_the_end_and_taken_from_one_who_is_gone() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let client = cluster.client().await;
        namespace(&client, "election", &[]).await;
        let (hand, clock) =
            Clock::manual(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let leads = async |who: &str, leadership: &Leadership| {
            eventually(&format!("{who} leads"), async || {
                hand.advance(PERIOD / 10);
                leadership.holds().then_some(())
            })
            .await;
        };
        let (first, first_ender) = candidate(&client, "first", &clock);
        leads("the first", &first).await;
        let (second, second_ender) = candidate(&client, "second", &clock);
        let leases: Api<Lease> = Api::namespaced(client.clone(), "election");
        let version = async || leases.get("leader").await.unwrap().resource_version().unwrap();
        let before = version().await;
        eventually("the first renews", async || {
            hand.advance(PERIOD / 10);
            assert!(!(first.holds() && second.holds()));
            (version().await != before).then_some(())
        })
        .await;
        assert!(!second.holds());

        first_ender.end();
        leads("the second, which need not wait,", &second).await;
        assert!(!first.holds());
        let spec = leases.get("leader").await.unwrap().spec.unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("second"), Some(1)));

        // One that is not ours has it, and never renews it.
        second_ender.end();
        eventually("it is given back", async || {
            let spec = leases.get("leader").await.unwrap().spec.unwrap();
            (spec.holder_identity.as_deref() == Some("")).then_some(())
        })
        .await;
        let gone = json!({"spec": {"holderIdentity": "gone", "leaseDurationSeconds": DURATION.as_secs()}});
        leases.patch("leader", &PatchParams::default(), &Patch::Merge(&gone)).await.unwrap();
        let began = clock.now().monotonic;
        let (third, _third_ender) = candidate(&client, "third", &clock);
        leads("the third", &third).await;
        assert!(clock.now().monotonic - began >= DURATION);
    });
}
