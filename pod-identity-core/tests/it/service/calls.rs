//! Upstream calls: single flight, renewal, deadlines, stale credentials.

use super::*;

#[tokio::test(start_paused = true)]
async fn makes_one_call_for_500_requests_although_the_first_client_hangs_up() {
    for hangs_up in [true, false] {
        let world = World::new();
        let (service, permits) = (world.service(), world.block());
        let request = |number: u32| {
            // The pod sends several tokens, because kubelet replaces them.
            let (service, token) = (service.clone(), world.token(1, number % 5));
            tokio::spawn(async move { service.credentials(&token, pod(1)).await })
        };
        let first = request(0);
        settle().await;
        assert_eq!(world.calls(), 1);
        let others: Vec<_> = (1..500).map(request).collect();
        settle().await;
        if hangs_up {
            first.abort();
        }
        settle().await;
        permits.add_permits(1000);
        for other in others {
            assert_eq!(served(other.await.unwrap()), ("ASIA1".to_owned(), Origin::Shared));
        }
        match first.await {
            Err(error) => assert!(hangs_up && error.is_cancelled()),
            Ok(credentials) => assert_eq!(served(credentials), ("ASIA1".to_owned(), Origin::Fetched)),
        }
        assert_eq!(served(request(7).await.unwrap()), ("ASIA1".to_owned(), Origin::Cached));
        assert_eq!(world.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn serves_cached_credentials_until_their_margin_while_the_upstream_is_down() {
    let world = World::new();
    let (service, token) = (world.service(), world.token(1, 1));
    service.credentials(&token, Peer::Local).await.unwrap();
    world.upstream(Upstream::Fails(CredentialError::unavailable("the vault is sealed")));
    for _ in 0..58 {
        world.pass(MINUTE).await;
        assert_eq!(
            served(service.credentials(&token, Peer::Local).await),
            ("ASIA1".to_owned(), Origin::Cached)
        );
    }
    assert!(world.calls() > 10, "renewals are not repeated");
    world.pass(Duration::from_secs(105)).await;
    let error = service.credentials(&token, Peer::Local).await.unwrap_err();
    assert_eq!((error.code(), error.status()), (ErrorCode::UpstreamUnavailable, 503));
    world.upstream(Upstream::Issues);
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(served(service.credentials(&token, Peer::Local).await).1, Origin::Fetched);
}

#[tokio::test(start_paused = true)]
async fn renews_before_expiry_the_earliest_first() {
    let world = World::new();
    let service = world.service();
    let lifetimes: Vec<u64> = (0..20_u64).map(|pod| 3600 + pod * 7 % 20 * 60).collect();
    for (pod, lifetime) in (0..).zip(&lifetimes) {
        *world.source.lifetime.lock().unwrap() = Duration::from_secs(*lifetime);
        service.credentials(&world.token(pod, 1), Peer::Local).await.unwrap();
    }
    assert_eq!(world.calls(), 20);
    // All are due at once, and there are permits for a few each second.
    world.jump(Duration::from_secs(2700)).await;
    assert!((21..=26).contains(&world.calls()), "{}", world.calls());
    world.pass(Duration::from_secs(20)).await;
    assert_eq!(world.calls(), 40, "each is renewed once");
    let renewed: Vec<u64> = (20..40)
        .map(|call| {
            let name = world.call(call).identity().pod.name.as_str().to_owned();
            lifetimes[name.strip_prefix("cart-").unwrap().parse::<usize>().unwrap()]
        })
        .collect();
    assert!(renewed.is_sorted(), "{renewed:?}");
    assert_eq!(service.statistics().renewals.get("ok"), Some(&20));
    let (key, origin) = served(service.credentials(&world.token(0, 1), Peer::Local).await);
    assert!(origin == Origin::Cached && key != "ASIA1", "{key}");
}

#[tokio::test(start_paused = true)]
async fn request_ends_at_its_deadline_and_the_call_serves_the_next_request() {
    let world = World::new();
    let (service, permits, token) = (world.service(), world.block(), world.token(1, 1));
    let start = tokio::time::Instant::now();
    let error = service.credentials(&token, Peer::Local).await.unwrap_err();
    assert_eq!(start.elapsed().as_millis() / 100, 45);
    assert_eq!((error.status(), error.retry_after()), (503, Some(Duration::from_secs(2))));
    assert!(error.to_string().contains("4.5 s"), "{error}");
    permits.add_permits(1);
    settle().await;
    assert_eq!(served(service.credentials(&token, Peer::Local).await), ("ASIA1".to_owned(), Origin::Cached));
    assert_eq!(world.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn hanging_call_ends_at_the_fetch_deadline() {
    let world = World::new();
    let (service, _permits, token) = (world.service(), world.block(), world.token(1, 1));
    assert_eq!(code(service.credentials(&token, Peer::Local).await), ErrorCode::UpstreamUnavailable);
    assert_eq!(world.source.in_progress.load(Ordering::SeqCst), 1);
    world.jump(Duration::from_secs(11)).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!((world.source.in_progress.load(Ordering::SeqCst), world.calls()), (0, 1), "the call goes on");
    assert_eq!(service.statistics().in_flight, 0);
}

/// A service in front of another cache, as the auth service is: fresh for a fifth of the lifetime, no renewals.
#[tokio::test(start_paused = true)]
async fn serves_stale_credentials_while_a_call_hangs_but_not_after_a_refusal() {
    let world = World::new();
    let mut config = pod_identity_core::service::ServiceConfig::default();
    (config.fresh_percent, config.renew) = (20, false);
    let service = world.builder().cluster(cluster("demo"), world.issuer()).config(config).build().unwrap();
    let token = world.token(1, 1);
    let request = || service.credentials(&token, Peer::Local);
    assert_eq!(served(request().await), ("ASIA1".to_owned(), Origin::Fetched));
    world.jump(Duration::from_secs(719)).await;
    assert_eq!(served(request().await), ("ASIA1".to_owned(), Origin::Cached));
    world.jump(Duration::from_secs(2)).await;
    let permits = world.block();
    let start = tokio::time::Instant::now();
    assert_eq!(served(request().await), ("ASIA1".to_owned(), Origin::Stale));
    assert_eq!(start.elapsed().as_millis() / 100, 15);
    permits.add_permits(1);
    settle().await;
    assert_eq!(served(request().await), ("ASIA2".to_owned(), Origin::Cached));
    assert_eq!(world.calls(), 2);

    world.jump(Duration::from_secs(800)).await;
    world.upstream(Upstream::Fails(CredentialError::unavailable("away")));
    assert_eq!(served(request().await), ("ASIA2".to_owned(), Origin::Stale));
    world.upstream(Upstream::Fails(CredentialError::new(ErrorCode::RoleTrustRefused, "the role refuses")));
    world.jump(Duration::from_secs(31)).await;
    assert_eq!(code(request().await), ErrorCode::RoleTrustRefused);
    world.upstream(Upstream::Fails(CredentialError::unavailable("away")));
    world.jump(Duration::from_secs(31)).await;
    assert_eq!(
        code(request().await),
        ErrorCode::UpstreamUnavailable,
        "credentials were served after a refusal"
    );
}

#[tokio::test(start_paused = true)]
async fn without_cache_each_request_is_a_call_that_ends_with_the_request() {
    let world = World::new();
    let mut config = pod_identity_core::service::ServiceConfig::default();
    config.capacity = 0;
    let upstream = pod_identity_core::service::TokenVerification::upstream();
    for verification in [world.issuer().into(), upstream] {
        world.upstream(Upstream::Issues);
        let before = world.calls();
        let service =
            world.builder().cluster(cluster("demo"), verification).config(config.clone()).build().unwrap();
        let token = world.token(1, 1);
        for number in 1..4 {
            let (key, origin) = served(service.credentials(&token, pod(1)).await);
            assert_eq!((key, origin), (format!("ASIA{}", before + number), Origin::Fetched));
            assert_eq!(service.statistics().cached, 0);
        }
        let _permits = world.block();
        let hanging = tokio::spawn(async move { service.credentials(&token, pod(1)).await.map(drop) });
        settle().await;
        assert_eq!(world.source.in_progress.load(Ordering::SeqCst), 1);
        hanging.abort();
        settle().await;
        assert_eq!(world.source.in_progress.load(Ordering::SeqCst), 0, "the call goes on without a request");
    }
}

#[tokio::test(start_paused = true)]
async fn invalidated_service_account_makes_a_call_at_its_next_request() {
    let world = World::new();
    let service = world.service();
    let (one, two) = (world.token(1, 1), world.token(2, 1));
    for token in [&one, &two] {
        service.credentials(token, Peer::Local).await.unwrap();
    }
    service.invalidate(&"shop".parse().unwrap(), &"till".parse().unwrap());
    assert_eq!(service.statistics().cached, 2);
    service.invalidate(&"shop".parse().unwrap(), &"cart".parse().unwrap());
    assert_eq!(service.statistics().cached, 0);
    assert_eq!(served(service.credentials(&one, Peer::Local).await), ("ASIA3".to_owned(), Origin::Fetched));
    assert_eq!(served(service.credentials(&two, Peer::Local).await), ("ASIA4".to_owned(), Origin::Fetched));
}

/// A call that began before an invalidation leaves no credentials in the cache, in each verification mode.
#[tokio::test(start_paused = true)]
async fn invalidation_reaches_a_call_in_progress() {
    let world = World::new();
    let upstream = pod_identity_core::service::TokenVerification::upstream();
    for verification in [world.issuer().into(), upstream] {
        let service = world.builder().cluster(cluster("demo"), verification).build().unwrap();
        let (permits, token, before) = (world.block(), world.token(1, 1), world.calls());
        let waiting = tokio::spawn({
            let (service, token) = (service.clone(), token.clone());
            async move { service.credentials(&token, Peer::Local).await }
        });
        settle().await;
        assert_eq!(world.calls(), before + 1);
        service.invalidate(&"shop".parse().unwrap(), &"cart".parse().unwrap());
        permits.add_permits(9);
        assert_eq!(served(waiting.await.unwrap()), (format!("ASIA{}", before + 1), Origin::Fetched));
        assert_eq!(service.statistics().cached, 0);
        let (key, origin) = served(service.credentials(&token, Peer::Local).await);
        assert_eq!((key, origin), (format!("ASIA{}", before + 2), Origin::Fetched));
    }
}
