//! Association lookups at each request.

use pod_identity_core::association::AssociationTable;
use pod_identity_core::identity::WorkloadIdentity;
use pod_identity_core::service::{AssociationLookup, LookupFuture};

use super::keys::{Endpoint, Publishes};
use super::*;

/// The result of a lookup: an association, none, an error, or no response.
#[derive(Clone)]
enum Stored {
    Role(&'static str),
    Nothing,
    Fails,
    Hangs,
}

#[derive(Clone)]
struct Store(Arc<Mutex<Stored>>);

impl Store {
    fn set(&self, stored: Stored) {
        *self.0.lock().unwrap() = stored;
    }
}

impl AssociationLookup for Store {
    fn association<'a>(&'a self, _: &'a Cluster, _: &'a WorkloadIdentity) -> LookupFuture<'a> {
        let stored = self.0.lock().unwrap().clone();
        Box::pin(async move {
            match stored {
                Stored::Role(role) => Ok(Some(association(role))),
                Stored::Nothing => Ok(None),
                Stored::Fails => Err(CredentialError::unavailable("the store cannot be read")),
                Stored::Hangs => std::future::pending().await,
            }
        })
    }
}

fn service(world: &World) -> (CredentialService, Store) {
    let store = Store(Arc::new(Mutex::new(Stored::Role("old"))));
    let builder = world.builder().cluster(cluster("demo"), world.issuer()).associations(store.clone());
    (builder.build().unwrap(), store)
}

fn roles(world: &World, from: usize) -> Vec<String> {
    let role = |call| world.call(call).association().unwrap().role.to_string();
    (from..world.calls()).map(|call| role(call).rsplit('/').next().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn changed_association_counts_at_the_next_request_and_the_old_role_is_not_renewed() {
    let world = World::new();
    let (service, store) = service(&world);
    let token = world.token(1, 1);
    let request = || service.credentials(&token, Peer::Local);
    assert_eq!(served(request().await), ("ASIA1".to_owned(), Origin::Fetched));
    assert_eq!(served(request().await), ("ASIA1".to_owned(), Origin::Cached));
    store.set(Stored::Role("new"));
    assert_eq!(served(request().await), ("ASIA2".to_owned(), Origin::Fetched));
    assert_eq!(service.statistics().cached, 1, "credentials of the old role are cached");
    for _ in 0..4 {
        world.pass(Duration::from_secs(900)).await;
        assert_ne!(served(request().await).0, "ASIA1");
    }
    assert!(world.calls() >= 3, "the new role is renewed");
    assert_eq!(roles(&world, 0)[0], "old");
    assert!(roles(&world, 1).iter().all(|role| role == "new"), "{:?}", roles(&world, 1));
}

#[tokio::test(start_paused = true)]
async fn changed_association_is_not_renewed_without_a_request() {
    for stored in [Stored::Role("new"), Stored::Nothing] {
        let world = World::new();
        let (service, store) = service(&world);
        service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
        store.set(stored);
        world.pass(HOUR).await;
        assert_eq!(world.calls(), 1);
        assert_eq!(service.statistics().cached, 0);
    }
}

/// The association changes during a renewal with the old role.
#[tokio::test(start_paused = true)]
async fn credentials_of_the_old_role_are_not_served_after_the_change() {
    let world = World::new();
    let (service, store) = service(&world);
    let token = world.token(1, 1);
    service.credentials(&token, Peer::Local).await.unwrap();
    let permits = world.block();
    world.pass(Duration::from_secs(2000)).await;
    assert_eq!(roles(&world, 1), ["old"], "the renewal has not begun");
    store.set(Stored::Role("new"));
    world.upstream(Upstream::Issues);
    let (key, _) = served(service.credentials(&token, Peer::Local).await);
    assert_eq!(key, "ASIA3");
    permits.add_permits(1);
    settle().await;
    assert_eq!(served(service.credentials(&token, Peer::Local).await), (key, Origin::Cached));
    assert_eq!(service.statistics().cached, 1);
}

#[tokio::test(start_paused = true)]
async fn removed_association_refuses_the_next_request_and_drops_the_credentials() {
    let world = World::new();
    let (service, store) = service(&world);
    let token = world.token(1, 1);
    service.credentials(&token, Peer::Local).await.unwrap();
    assert_eq!(service.statistics().cached, 1);
    store.set(Stored::Nothing);
    let error = service.credentials(&token, Peer::Local).await.unwrap_err();
    assert_eq!((error.code(), error.status()), (ErrorCode::AssociationNotFound, 404));
    for word in ["demo", "shop", "cart"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(service.statistics().cached, 0);
    // The association is back: credentials are issued again, and no old ones are served.
    store.set(Stored::Role("old"));
    assert_eq!(served(service.credentials(&token, Peer::Local).await), ("ASIA2".to_owned(), Origin::Fetched));
}

#[tokio::test(start_paused = true)]
async fn failing_or_hanging_store_refuses_requests_and_keeps_the_credentials() {
    for stored in [Stored::Fails, Stored::Hangs] {
        let world = World::new();
        let (service, store) = service(&world);
        let token = world.token(1, 1);
        service.credentials(&token, Peer::Local).await.unwrap();
        store.set(stored);
        assert_eq!(code(service.credentials(&token, Peer::Local).await), ErrorCode::UpstreamUnavailable);
        service.recheck_associations().await;
        assert_eq!(service.statistics().cached, 1);
        // Renewals start and end, too: each has a deadline. Otherwise they would use up the few permits.
        world.pass(Duration::from_secs(3000)).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(world.calls(), 1);
        store.set(Stored::Role("old"));
        world.pass(Duration::from_secs(60)).await;
        assert_eq!(world.calls(), 2, "a renewal");
        assert_eq!(
            served(service.credentials(&token, Peer::Local).await),
            ("ASIA2".to_owned(), Origin::Cached)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn recheck_drops_changed_and_removed_associations() {
    for (stored, left) in [(Stored::Role("old"), 2), (Stored::Role("new"), 0), (Stored::Nothing, 0)] {
        let world = World::new();
        let (service, store) = service(&world);
        for pod in 1..=2 {
            service.credentials(&world.token(pod, 1), Peer::Local).await.unwrap();
        }
        store.set(stored);
        service.recheck_associations().await;
        assert_eq!(service.statistics().cached, left);
        assert_eq!(world.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn table_is_a_lookup_and_steps_share_the_cache_with_requests() {
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

/// A pod that was verified before a key was withdrawn does not make the token of that key known.
#[tokio::test(start_paused = true)]
async fn pod_verified_before_a_rotation_does_not_make_its_token_known() {
    let (world, new) = (World::new(), Key::p256("new"));
    let endpoint = Endpoint::new(&[&world.key]);
    let store = Store(Arc::new(Mutex::new(Stored::Role("cart"))));
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
