//! Limits of upstream calls.

use pod_identity_core::service::{PeerLimits, ServiceConfig, TokenVerification};

use super::*;

fn config(remote: PeerLimits) -> ServiceConfig {
    let mut config = ServiceConfig::default();
    config.limits.remote = remote;
    config
}

/// Spawns requests with different tokens of one peer.
fn spawn(
    service: &CredentialService,
    world: &World,
    peer: Peer,
    pods: std::ops::Range<u32>,
) -> Vec<tokio::task::JoinHandle<Result<Credentials, CredentialError>>> {
    let request = |pod: u32| {
        let (service, token) = (service.clone(), world.token(pod, 1));
        tokio::spawn(async move { service.credentials(&token, peer).await })
    };
    pods.map(request).collect()
}

#[tokio::test(start_paused = true)]
async fn unverified_tokens_of_a_peer_use_only_its_own_limit() {
    let world = World::new();
    let builder = world.builder().cluster(cluster("demo"), TokenVerification::upstream());
    let service = builder.config(config(PeerLimits::new(1, 2))).build().unwrap();
    let permits = world.block();
    let flood = spawn(&service, &world, pod(1), 0..5);
    settle().await;
    let statistics = service.statistics();
    assert_eq!(
        (world.calls(), statistics.in_flight, statistics.waiting, statistics.queue_full),
        (1, 1, 2, 2)
    );
    let other = spawn(&service, &world, pod(2), 10..11);
    settle().await;
    assert_eq!(world.calls(), 2, "another peer waits for the requests of the first");
    permits.add_permits(9);
    other.into_iter().next().unwrap().await.unwrap().unwrap();
    let mut codes = Vec::new();
    for one in flood {
        let served = one.await.unwrap();
        codes.push(served.as_ref().err().map(CredentialError::code));
    }
    assert_eq!(codes, [None, None, None, Some(ErrorCode::Throttled), Some(ErrorCode::Throttled)]);
}

/// A refused token keeps its peer's credit for two seconds, so invalid tokens make few calls per second.
#[tokio::test(start_paused = true)]
async fn invalid_tokens_of_a_peer_make_few_calls_per_second() {
    let world = World::new();
    let builder = world.builder().cluster(cluster("demo"), TokenVerification::upstream());
    let service = builder.config(config(PeerLimits::new(2, 100))).build().unwrap();
    world.upstream(Upstream::Fails(CredentialError::new(ErrorCode::TokenRefused, "no")));
    let requests = spawn(&service, &world, pod(1), 0..50);
    settle().await;
    assert_eq!(world.calls(), 2);
    for second in [1, 2, 3, 4] {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(world.calls(), 2 + second / 2 * 2, "after {second} s");
    }
    requests.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn verified_tokens_have_no_peer_limit() {
    let world = World::new();
    let builder = world.builder().cluster(cluster("demo"), world.issuer());
    let service = builder.config(config(PeerLimits::new(1, 0))).build().unwrap();
    let permits = world.block();
    let requests = spawn(&service, &world, pod(1), 0..30);
    settle().await;
    assert_eq!(world.calls(), 30);
    permits.add_permits(100);
    for one in requests {
        one.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn throttled_upstream_is_called_again_after_its_pause() {
    let world = World::new();
    let service = world.service();
    let throttled = CredentialError::throttled("slow down", Some(Duration::from_secs(20)));
    world.upstream(Upstream::Fails(throttled));
    let error = service.credentials(&world.token(1, 1), Peer::Local).await.unwrap_err();
    assert_eq!((error.code(), error.status()), (ErrorCode::Throttled, 503));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(20)));
    assert_eq!(world.calls(), 1, "a call within the pause");
    assert!(service.statistics().rate_limit.is_some());
    world.upstream(Upstream::Issues);
    world.jump(Duration::from_secs(5)).await;
    // Another pod gets the rest of the pause without a call.
    let error = service.credentials(&world.token(2, 1), Peer::Local).await.unwrap_err();
    assert_eq!((error.code(), error.retry_after()), (ErrorCode::Throttled, Some(Duration::from_secs(15))));
    assert_eq!(world.calls(), 1);
    world.jump(Duration::from_secs(16)).await;
    service.credentials(&world.token(2, 1), Peer::Local).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn retryable_call_is_repeated_and_a_refusal_is_not() {
    let attempts = |error: CredentialError| async move {
        let world = World::new();
        let service = world.service();
        world.upstream(Upstream::Fails(error));
        let denied = service.credentials(&world.token(1, 1), Peer::Local).await;
        assert!(denied.is_err());
        world.calls()
    };
    assert_eq!(attempts(CredentialError::unavailable("away")).await, 3);
    assert_eq!(attempts(CredentialError::unavailable("away").attempt_again(false)).await, 1);
    assert_eq!(attempts(CredentialError::new(ErrorCode::SessionRefused, "no")).await, 1);
}

/// Numbers beyond the limits of semaphores and clocks.
#[tokio::test(start_paused = true)]
async fn largest_settings_work() {
    let world = World::new();
    let most = PeerLimits::new(usize::MAX, usize::MAX);
    let mut config = config(most);
    (config.limits.local, config.limits.calls, config.limits.renewals) = (most, usize::MAX, usize::MAX);
    config.limits.hold = Duration::MAX;
    (config.request_deadline, config.stale_after, config.fetch_deadline) =
        (Duration::MAX, Duration::MAX, Duration::MAX);
    let builder = world.builder().cluster(cluster("demo"), TokenVerification::upstream());
    let service = builder.config(config).build().unwrap();
    service.credentials(&world.token(1, 1), pod(1)).await.unwrap();
    world.upstream(Upstream::Fails(CredentialError::new(ErrorCode::TokenRefused, "no")));
    assert_eq!(code(service.credentials(&world.token(2, 1), pod(1)).await), ErrorCode::TokenRefused);
}
