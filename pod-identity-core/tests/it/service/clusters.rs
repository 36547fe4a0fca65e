//! Several clusters, and changes of clusters.

use pod_identity_core::identity::WorkloadIdentity;
use pod_identity_core::service::{AssociationLookup, BuildError, LookupFuture, TokenVerification};

use super::*;

const OTHER: &str = "https://oidc.pod-identity.test/other";

#[tokio::test(start_paused = true)]
async fn finds_the_cluster_of_a_token_by_its_issuer() {
    let (world, key) = (World::new(), Key::p256("b"));
    let other = Issuer::fixed(OTHER, key_set(&[&key]));
    let service = world
        .builder()
        .cluster(cluster("demo"), world.issuer())
        .cluster(cluster("other"), other)
        .build()
        .unwrap();
    service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
    service.credentials(&token(&key, OTHER, 1, 1), Peer::Local).await.unwrap();
    let names = [0, 1].map(|call| world.call(call).cluster().name.as_str().to_owned());
    assert_eq!(names, ["demo", "other"]);
    // A key of one cluster verifies no tokens of another.
    assert_eq!(
        code(service.credentials(&token(&key, ISSUER, 1, 1), Peer::Local).await),
        ErrorCode::TokenKeyUnknown
    );
    let third =
        service.credentials(&token(&key, "https://oidc.pod-identity.test/third", 1, 1), Peer::Local).await;
    let error = third.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenIssuerWrong);
    assert!(error.to_string().contains(ISSUER) && error.to_string().contains(OTHER), "{error}");
    assert_eq!(world.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn issuer_of_two_clusters_is_refused_unless_the_request_has_the_cluster() {
    let world = World::new();
    let service = world
        .builder()
        .cluster(cluster("blue"), world.issuer())
        .cluster(cluster("green"), world.issuer())
        .build()
        .unwrap();
    let token = world.token(1, 1);
    let error = service.credentials(&token, Peer::Local).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenIssuerWrong);
    assert!(error.to_string().contains("several clusters"), "{error}");
    assert!(service.verify(&"green".parse().unwrap(), &token).await.is_ok());
    assert_eq!(world.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn cluster_may_have_several_issuers_with_their_own_keys() {
    let (world, key) = (World::new(), Key::p256("b"));
    let issuers = vec![world.issuer(), Issuer::fixed(OTHER, key_set(&[&key]))];
    let service = world.builder().cluster(cluster("demo"), issuers).build().unwrap();
    service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
    service.credentials(&token(&key, OTHER, 2, 1), Peer::Local).await.unwrap();
    for mixed in [token(&key, ISSUER, 3, 1), token(&world.key, OTHER, 3, 1)] {
        assert_eq!(code(service.credentials(&mixed, Peer::Local).await), ErrorCode::TokenKeyUnknown);
    }
    assert_eq!(world.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn replaces_clusters_while_the_service_runs() {
    let (world, key) = (World::new(), Key::p256("b"));
    let service = world.service();
    let (old, new) = (world.token(1, 1), token(&key, OTHER, 2, 1));
    service.credentials(&old, Peer::Local).await.unwrap();
    assert_eq!(code(service.credentials(&new, Peer::Local).await), ErrorCode::TokenKeyUnknown);

    let other = || TokenVerification::from(Issuer::fixed(OTHER, key_set(&[&key])));
    let demo = || TokenVerification::from(world.issuer());
    service.set_clusters([(cluster("demo"), demo()), (cluster("other"), other())]).unwrap();
    assert_eq!(served(service.credentials(&old, Peer::Local).await), ("ASIA1".to_owned(), Origin::Cached));
    service.credentials(&new, Peer::Local).await.unwrap();

    let twice = service.set_clusters([(cluster("demo"), demo()), (cluster("demo"), other())]);
    assert_eq!(twice, Err(BuildError::ClusterTwice("demo".parse().unwrap())));
    service.credentials(&old, Peer::Local).await.unwrap();
    assert_eq!(world.calls(), 2);

    service.set_clusters([(cluster("other"), other())]).unwrap();
    assert_eq!(service.statistics().cached, 1, "credentials of the removed cluster are cached");
    assert_eq!(code(service.credentials(&old, Peer::Local).await), ErrorCode::TokenKeyUnknown);
    service.set_clusters([]).unwrap();
    assert_eq!(code(service.credentials(&new, Peer::Local).await), ErrorCode::ClusterUnknown);
    assert_eq!(service.statistics().cached, 0);
}

/// Session tags and external id contain the region, so credentials of the old region are not served or renewed.
#[tokio::test(start_paused = true)]
async fn changed_cluster_is_another_session() {
    let world = World::new();
    let service = world.service();
    let token = world.token(1, 1);
    service.credentials(&token, Peer::Local).await.unwrap();
    let permits = world.block();
    world.pass(Duration::from_secs(2000)).await;
    assert_eq!(world.calls(), 2, "the renewal has not begun");
    let moved = || cluster("demo").in_region("eu-west-1", "111122223333".parse().unwrap());
    service.set_clusters([(moved(), world.issuer().into())]).unwrap();
    world.upstream(Upstream::Issues);
    permits.add_permits(1);
    settle().await;
    assert_eq!(served(service.credentials(&token, Peer::Local).await), ("ASIA3".to_owned(), Origin::Fetched));
    world.pass(HOUR).await;
    assert!((3..world.calls()).all(|call| *world.call(call).cluster().as_ref() == moved()));
    assert!(world.calls() > 3);
}

/// The response belongs to a cluster that is not configured any more. It is not served or renewed.
#[tokio::test(start_paused = true)]
async fn response_for_a_changed_cluster_is_not_renewed() {
    let world = World::new();
    let service = world.builder().cluster(cluster("demo"), TokenVerification::upstream()).build().unwrap();
    let (permits, token) = (world.block(), world.token(1, 1));
    let waiting = tokio::spawn({
        let (service, token) = (service.clone(), token.clone());
        async move { service.credentials(&token, pod(1)).await }
    });
    settle().await;
    let moved = cluster("demo").in_region("eu-west-1", "111122223333".parse().unwrap());
    service.set_clusters([(moved.clone(), TokenVerification::upstream())]).unwrap();
    permits.add_permits(1);
    assert_eq!(served(waiting.await.unwrap()).0, "ASIA1");
    world.upstream(Upstream::Issues);
    assert_eq!(served(service.credentials(&token, pod(1)).await), ("ASIA2".to_owned(), Origin::Fetched));
    world.pass(HOUR).await;
    assert!(world.calls() > 2);
    assert!((1..world.calls()).all(|call| **world.call(call).cluster() == moved));
}

#[tokio::test]
async fn build_rejects_a_service_that_cannot_work() {
    let world = World::new();
    let name = |name: &str| name.parse().unwrap();
    let demo = || world.builder().cluster(cluster("demo"), world.issuer());
    let table = || pod_identity_core::association::AssociationTable::build([]).unwrap();
    let upstream = TokenVerification::upstream;
    let discovered = || TokenVerification::discovered(|_| None);
    for (builder, wanted) in [
        (world.builder(), BuildError::NoCluster),
        (demo().cluster(cluster("demo"), world.issuer()), BuildError::ClusterTwice(name("demo"))),
        (
            world.builder().cluster(cluster("demo"), upstream()).associations(table()),
            BuildError::AssociationsWithoutKeys(name("demo")),
        ),
        (
            world.builder().cluster(cluster("demo"), discovered()).associations(table()),
            BuildError::AssociationsWithoutKeys(name("demo")),
        ),
        (demo().cluster(cluster("two"), upstream()), BuildError::ClusterWithoutIssuer(name("two"))),
        (demo().cluster(cluster("two"), discovered()), BuildError::ClusterWithoutIssuer(name("two"))),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error, wanted);
        assert!(error.to_string().len() > 20, "{error}");
    }
    assert!(demo().build().is_ok());
}

#[test]
fn build_needs_a_runtime() {
    let world = World::new();
    let error = world.builder().cluster(cluster("demo"), world.issuer()).build().unwrap_err();
    assert_eq!(error, BuildError::NoRuntime);
}

/// A store that replaces the clusters of its service during the first lookup.
struct Replacing {
    service: std::sync::OnceLock<CredentialService>,
    key: Key,
    replaced: std::sync::atomic::AtomicBool,
}

impl AssociationLookup for Replacing {
    fn association<'a>(&'a self, _: &'a Cluster, _: &'a WorkloadIdentity) -> LookupFuture<'a> {
        Box::pin(async move {
            if !self.replaced.swap(true, Ordering::SeqCst) {
                let issuer = Issuer::fixed(ISSUER, key_set(&[&self.key]));
                let service = self.service.get().unwrap();
                service.set_clusters([(cluster("demo"), issuer.into())]).unwrap();
            }
            Ok(Some(association("of-the-new-cluster")))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn token_of_old_keys_gets_no_role_of_clusters_that_replaced_its_own() {
    let world = World::new();
    let lookup = Arc::new(Replacing {
        service: std::sync::OnceLock::new(),
        key: Key::p256("b"),
        replaced: false.into(),
    });
    let service = world
        .builder()
        .cluster(cluster("demo"), world.issuer())
        .associations(lookup.clone())
        .build()
        .unwrap();
    lookup.service.set(service.clone()).unwrap();
    let error = service.credentials(&world.token(1, 1), Peer::Local).await.unwrap_err();
    assert_eq!((error.code(), world.calls()), (ErrorCode::TokenKeyUnknown, 0), "{error}");
}
