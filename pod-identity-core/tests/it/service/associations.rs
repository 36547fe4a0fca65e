//! The association of a service account, at each request.

use pod_identity_core::association::AssociationTable;
use pod_identity_core::identity::WorkloadIdentity;
use pod_identity_core::service::{AssociationLookup, LookupFuture};

use super::keys::{Endpoint, Publishes};
use super::*;

/// An association, or none, or a store that fails or hangs.
#[derive(Clone)]
enum Holds {
    Role(&'static str),
    Nothing,
    Fails,
    Hangs,
}

#[derive(Clone)]
struct Store(Arc<Mutex<Holds>>);

impl Store {
    fn holds(&self, holds: Holds) {
        *self.0.lock().unwrap() = holds;
    }
}

impl AssociationLookup for Store {
    fn association<'a>(&'a self, _: &'a Cluster, _: &'a WorkloadIdentity) -> LookupFuture<'a> {
        let holds = self.0.lock().unwrap().clone();
        Box::pin(async move {
            match holds {
                Holds::Role(role) => Ok(Some(association(role))),
                Holds::Nothing => Ok(None),
                Holds::Fails => Err(CredentialError::unavailable("the store cannot be read")),
                Holds::Hangs => std::future::pending().await,
            }
        })
    }
}

fn service(world: &World) -> (CredentialService, Store) {
    let store = Store(Arc::new(Mutex::new(Holds::Role("old"))));
    let builder = world.builder().cluster(cluster("demo"), world.issuer()).associations(store.clone());
    (builder.build().unwrap(), store)
}

fn roles(world: &World, from: usize) -> Vec<String> {
    let role = |call| world.call(call).association().unwrap().role.to_string();
    (from..world.calls()).map(|call| role(call).rsplit('/').next().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_changed_association_counts_at_the_next_request_and_the_old_role_is_never_renewed() {
    let world = World::new();
    let (service, store) = service(&world);
    let token = world.token(1, 1);
    let request = || service.credentials(&token, Peer::Local);
    assert_eq!(served(request().await), ("ASIA1".to_owned(), Origin::Fetched));
    assert_eq!(served(request().await), ("ASIA1".to_owned(), Origin::Cached));
    store.holds(Holds::Role("new"));
    assert_eq!(served(request().await), ("ASIA2".to_owned(), Origin::Fetched));
    assert_eq!(service.statistics().cached, 1, "the old role's credentials are dropped");
    for _ in 0..4 {
        world.pass(Duration::from_secs(900)).await;
        assert_ne!(served(request().await).0, "ASIA1");
    }
    assert!(world.calls() >= 3, "the new role is renewed");
    assert_eq!(roles(&world, 0)[0], "old");
    assert!(roles(&world, 1).iter().all(|role| role == "new"), "{:?}", roles(&world, 1));
}

#[tokio::test(start_paused = true)]
async fn a_role_that_nobody_requests_any_more_is_not_renewed_after_its_association_changed() {
    for holds in [Holds::Role("new"), Holds::Nothing] {
        let world = World::new();
        let (service, store) = service(&world);
        service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
        store.holds(holds);
        world.pass(HOUR).await;
        assert_eq!(world.calls(), 1);
        assert_eq!(service.statistics().cached, 0);
    }
}

/// The renewal has begun with the old role when the association changes.
#[tokio::test(start_paused = true)]
async fn an_answer_for_the_old_role_serves_nobody_after_the_change() {
    let world = World::new();
    let (service, store) = service(&world);
    let token = world.token(1, 1);
    service.credentials(&token, Peer::Local).await.unwrap();
    let gate = world.gate();
    world.pass(Duration::from_secs(2000)).await;
    assert_eq!(roles(&world, 1), ["old"], "the renewal is under way");
    store.holds(Holds::Role("new"));
    world.upstream(Upstream::Issues);
    let (key, _) = served(service.credentials(&token, Peer::Local).await);
    assert_eq!(key, "ASIA3");
    gate.add_permits(1);
    settle().await;
    assert_eq!(served(service.credentials(&token, Peer::Local).await), (key, Origin::Cached));
    assert_eq!(service.statistics().cached, 1);
}

#[tokio::test(start_paused = true)]
async fn a_removed_association_refuses_the_next_request_and_drops_the_credentials() {
    let world = World::new();
    let (service, store) = service(&world);
    let token = world.token(1, 1);
    service.credentials(&token, Peer::Local).await.unwrap();
    assert_eq!(service.statistics().cached, 1);
    store.holds(Holds::Nothing);
    let error = service.credentials(&token, Peer::Local).await.unwrap_err();
    assert_eq!((error.code(), error.status()), (ErrorCode::AssociationNotFound, 404));
    for word in ["demo", "shop", "cart"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(service.statistics().cached, 0);
    // It is there again: credentials are issued anew, and nothing of before is served.
    store.holds(Holds::Role("old"));
    assert_eq!(served(service.credentials(&token, Peer::Local).await), ("ASIA2".to_owned(), Origin::Fetched));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_hangs_refuses_requests_and_leaves_the_credentials() {
    for holds in [Holds::Fails, Holds::Hangs] {
        let world = World::new();
        let (service, store) = service(&world);
        let token = world.token(1, 1);
        service.credentials(&token, Peer::Local).await.unwrap();
        store.holds(holds);
        assert_eq!(code(service.credentials(&token, Peer::Local).await), ErrorCode::UpstreamUnavailable);
        service.recheck_associations().await;
        assert_eq!(service.statistics().cached, 1);
        // Renewals come and go, too: each has a deadline, or the few permits would be gone.
        world.pass(Duration::from_secs(3000)).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(world.calls(), 1);
        store.holds(Holds::Role("old"));
        world.pass(Duration::from_secs(60)).await;
        assert_eq!(world.calls(), 2, "a renewal");
        assert_eq!(
            served(service.credentials(&token, Peer::Local).await),
            ("ASIA2".to_owned(), Origin::Cached)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_recheck_drops_what_changed_or_is_gone() {
    for (holds, left) in [(Holds::Role("old"), 2), (Holds::Role("new"), 0), (Holds::Nothing, 0)] {
        let world = World::new();
        let (service, store) = service(&world);
        for pod in 1..=2 {
            service.credentials(&world.token(pod, 1), Peer::Local).await.unwrap();
        }
        store.holds(holds);
        service.recheck_associations().await;
        assert_eq!(service.statistics().cached, left);
        assert_eq!(world.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn the_table_is_a_lookup_and_the_steps_share_the_cache_with_requests() {
    let world = World::new();
    let table = AssociationTable::build([(cluster("demo"), vec![(*association("cart")).clone()])]).unwrap();
    let service =
        world.builder().cluster(cluster("demo"), world.issuer()).associations(table).build().unwrap();
    let (demo, token) = ("demo".parse().unwrap(), world.token(1, 1));
    let verified = service.verify(&demo, &token).await.unwrap();
    assert_eq!(verified.token().identity.pod.name.as_str(), "cart-1");
    let authorized = service.authorize(verified).await.unwrap();
    assert_eq!(authorized.association(), &association("cart"));
    assert_eq!(authorized.cluster().name, demo);
    assert_eq!(served(service.issue(&authorized).await), ("ASIA1".to_owned(), Origin::Fetched));
    assert_eq!(served(service.issue(&authorized).await), ("ASIA1".to_owned(), Origin::Cached));
    assert_eq!(served(service.credentials(&token, Peer::Local).await), ("ASIA1".to_owned(), Origin::Cached));

    let unknown = service.verify(&"other".parse().unwrap(), &token).await.unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::ClusterUnknown);
    let caller = token_for(&world.key, ISSUER, "pod-identity-auth", 3, 1);
    assert_eq!(service.verify(&demo, &caller).await.unwrap_err().code(), ErrorCode::TokenAudienceWrong);
    let agent = service.verify_caller(&demo, &caller, "pod-identity-auth").await.unwrap();
    assert_eq!(agent.identity.pod.name.as_str(), "cart-3");
    let wrong = service.verify_caller(&demo, &token, "pod-identity-auth").await.unwrap_err();
    assert_eq!(wrong.code(), ErrorCode::TokenAudienceWrong);
}

/// A token of a withdrawn key does not become known by a pod that was verified before.
#[tokio::test(start_paused = true)]
async fn a_pod_that_was_verified_before_a_rotation_does_not_make_its_token_known() {
    let (world, new) = (World::new(), Key::p256("new"));
    let endpoint = Endpoint::new(&[&world.key]);
    let store = Store(Arc::new(Mutex::new(Holds::Role("cart"))));
    let builder = world.builder().cluster(cluster("demo"), endpoint.issuer(ISSUER)).associations(store);
    let service = builder.build().unwrap();
    settle().await;
    let old = world.token(1, 1);
    let verified = service.verify(&"demo".parse().unwrap(), &old).await.unwrap();
    let authorized = service.authorize(verified).await.unwrap();
    endpoint.publishes(Publishes::Document(document(&[&new])));
    world.pass(Duration::from_secs(301)).await;
    service.credentials(&token(&new, ISSUER, 2, 1), Peer::Local).await.unwrap();
    service.issue(&authorized).await.unwrap();
    assert_eq!(code(service.credentials(&old, Peer::Local).await), ErrorCode::TokenKeyUnknown);
}
