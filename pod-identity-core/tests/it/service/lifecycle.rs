//! The lifecycle of a service: trait objects, panics of the embedder's code, and the end of every task.

use std::sync::Weak;

use pod_identity_core::identity::WorkloadIdentity;
use pod_identity_core::service::{AssociationLookup, LookupFuture, TokenVerification};

use super::keys::{Endpoint, Publishes};
use super::*;

#[tokio::test(start_paused = true)]
async fn dropping_the_last_clone_ends_every_task() {
    let world = World::new();
    let captured = Arc::new(());
    let issuer = {
        let captured = captured.clone();
        let key = document(&[&world.key]);
        Issuer::fetched(ISSUER, move || {
            let (key, captured) = (key.clone(), captured.clone());
            async move {
                drop(captured);
                Ok(key)
            }
        })
    };
    let service = world.builder().cluster(cluster("demo"), issuer).build().unwrap();
    settle().await;
    service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
    // A call for a request whose client hangs up, and a renewal.
    let _permits = world.block();
    let hanging = tokio::spawn({
        let (service, token) = (service.clone(), world.token(2, 1));
        async move { service.credentials(&token, Peer::Local).await.map(drop) }
    });
    world.pass(Duration::from_secs(2100)).await;
    hanging.abort();
    settle().await;
    assert_eq!(world.source.in_progress.load(Ordering::SeqCst), 2);
    let clone = service.clone();
    drop(service);
    settle().await;
    assert_eq!(world.source.in_progress.load(Ordering::SeqCst), 2, "dropping one clone ended the service");

    let World { source, control, .. } = world;
    let (in_progress, kept): (_, Weak<Source>) = (source.in_progress.clone(), Arc::downgrade(&source));
    drop(source);
    assert!(kept.upgrade().is_some() && Arc::strong_count(&captured) > 1);
    drop(clone);
    settle().await;
    assert_eq!(in_progress.load(Ordering::SeqCst), 0, "a call goes on");
    assert!(kept.upgrade().is_none(), "the source is not dropped");
    assert_eq!(Arc::strong_count(&captured), 1, "the issuer is not dropped");
    control.advance(HOUR);
}

#[tokio::test(start_paused = true)]
async fn discovered_keys_are_not_fetched_after_the_end() {
    let world = World::new();
    let endpoint = Endpoint::new(&[&world.key]);
    let discovered = {
        let endpoint = endpoint.clone();
        TokenVerification::discovered(move |url| Some(endpoint.issuer(url)))
    };
    let service = world.builder().cluster(cluster("demo"), discovered).build().unwrap();
    service.credentials(&world.token(1, 1), pod(1)).await.unwrap();
    world.pass(Duration::from_secs(301)).await;
    let fetches = endpoint.fetches();
    assert!(fetches >= 2);
    drop(service);
    world.pass(HOUR).await;
    assert_eq!(endpoint.fetches(), fetches);
}

/// Tasks run on the runtime that built the service, because a request's runtime may end.
#[test]
fn call_survives_the_runtime_of_its_request() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let (own, of_request) = (runtime(), runtime());
    let world = World::new();
    let service = own.block_on(async { world.service() });
    let (permits, token) = (world.block(), world.token(1, 1));
    of_request.spawn({
        let (service, token) = (service.clone(), token.clone());
        async move { service.credentials(&token, Peer::Local).await.map(drop) }
    });
    while world.calls() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    of_request.shutdown_timeout(Duration::from_secs(5));
    permits.add_permits(1);
    let credentials = own.block_on(service.credentials(&token, Peer::Local));
    assert_eq!(served(credentials).0, "ASIA1");
    assert_eq!(world.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn panic_of_the_source_is_an_error_with_a_pause() {
    let world = World::new();
    let service = world.service();
    world.upstream(Upstream::Panics);
    let error = service.credentials(&world.token(1, 1), Peer::Local).await.unwrap_err();
    assert_eq!((error.code(), error.status(), world.calls()), (ErrorCode::Internal, 500, 1));
    for number in 1..20 {
        assert!(service.credentials(&world.token(1, number), Peer::Local).await.is_err());
    }
    assert_eq!(world.calls(), 1, "a source that panics gets a call for each request");
    world.upstream(Upstream::Issues);
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(served(service.credentials(&world.token(1, 1), Peer::Local).await).0, "ASIA2");

    // A renewal that panics keeps the credentials, and others go on.
    world.upstream(Upstream::Panics);
    world.pass(Duration::from_secs(2100)).await;
    assert!(world.calls() > 2);
    assert_eq!(service.statistics().renewals.get("internal"), Some(&(world.calls() as u64 - 2)));
    assert_eq!(served(service.credentials(&world.token(1, 1), Peer::Local).await).0, "ASIA2");
    world.upstream(Upstream::Issues);
    world.pass(MINUTE).await;
    assert_ne!(served(service.credentials(&world.token(1, 1), Peer::Local).await).0, "ASIA2");
    let failed = tokio::time::timeout(HOUR, service.failed()).await;
    assert!(failed.is_err(), "renewals have stopped");
}

/// A lookup that panics ends only its own request or renewal.
#[tokio::test(start_paused = true)]
async fn panic_of_the_lookup_stops_nothing() {
    struct Lookup(Arc<AtomicUsize>);
    impl AssociationLookup for Lookup {
        fn association<'a>(&'a self, _: &'a Cluster, _: &'a WorkloadIdentity) -> LookupFuture<'a> {
            assert_eq!(self.0.load(Ordering::SeqCst), 0, "the lookup panics for this test");
            Box::pin(async { Ok(Some(association("cart"))) })
        }
    }
    let (world, panics) = (World::new(), Arc::new(AtomicUsize::new(0)));
    let service = world
        .builder()
        .cluster(cluster("demo"), world.issuer())
        .associations(Lookup(panics.clone()))
        .build()
        .unwrap();
    service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
    panics.store(1, Ordering::SeqCst);
    let request = tokio::spawn({
        let (service, token) = (service.clone(), world.token(1, 1));
        async move { service.credentials(&token, Peer::Local).await.map(drop) }
    });
    assert!(request.await.unwrap_err().is_panic());
    world.pass(Duration::from_secs(2100)).await;
    panics.store(0, Ordering::SeqCst);
    world.pass(MINUTE).await;
    assert_eq!(world.calls(), 2, "there is no renewal after those that panicked");
}

#[tokio::test(start_paused = true)]
async fn both_traits_work_as_trait_objects() {
    let world = World::new();
    let source: Arc<dyn CredentialSource> = world.source.clone();
    let table = pod_identity_core::association::AssociationTable::build([(
        cluster("demo"),
        vec![(*association("cart")).clone()],
    )]);
    let lookup: Arc<dyn AssociationLookup> = Arc::new(table.unwrap());
    let service = CredentialService::builder(source)
        .clock(world.clock.clone())
        .cluster(cluster("demo"), world.issuer())
        .associations(lookup)
        .build()
        .unwrap();
    service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
    assert_eq!(world.call(0).association(), Some(&association("cart")));
}

#[tokio::test(start_paused = true)]
async fn debug_output_has_no_secret() {
    let world = World::new();
    let endpoint = Endpoint::new(&[&world.key]);
    let builder = world.builder().cluster(cluster("demo"), endpoint.issuer(ISSUER));
    let mut texts = vec![format!("{builder:#?}")];
    let service = builder.build().unwrap();
    settle().await;
    let token = world.token(1, 1);
    let credentials = service.credentials(&token, Peer::Local).await.unwrap();
    assert!(std::str::from_utf8(credentials.container_json()).unwrap().contains(SECRET));
    assert_eq!(credentials.as_ref(), credentials.container_json());
    let pod = service.verify(&"demo".parse().unwrap(), &token).await.unwrap();
    texts.push(format!("{service:#?} {credentials:#?} {pod:#?} {:#?}", world.call(0)));
    endpoint.publishes(Publishes::Document(format!("{token} {SECRET}").into_bytes()));
    world.pass(Duration::from_secs(301)).await;
    let forged = format!("{token}AAAA");
    let error = service.credentials(&forged, Peer::Local).await.unwrap_err();
    texts.push(format!("{error:#?} {error} {}", String::from_utf8(error.body()).unwrap()));
    let signature = token.rsplit('.').next().unwrap();
    let payload = token.split('.').nth(1).unwrap();
    for text in texts {
        for secret in [SECRET, SESSION, signature, payload] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}
