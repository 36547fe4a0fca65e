//! Keys discovered from tokens that the upstream accepted.

use pod_identity_core::service::TokenVerification;

use super::keys::{Endpoint, Publishes};
use super::*;

fn service(world: &World, endpoint: &Endpoint) -> CredentialService {
    let endpoint = endpoint.clone();
    let discovered =
        TokenVerification::discovered(move |url| url.starts_with("https:").then(|| endpoint.issuer(url)));
    world.builder().cluster(cluster("demo"), discovered).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn accepted_token_discovers_keys_and_a_replaced_token_is_not_a_call() {
    let world = World::new();
    let endpoint = Endpoint::new(&[&world.key]);
    let service = service(&world, &endpoint);
    settle().await;
    assert_eq!(endpoint.fetches(), 0, "no issuer was discovered");
    service.credentials(&world.token(1, 1), pod(1)).await.unwrap();
    settle().await;
    assert_eq!((world.calls(), endpoint.fetches()), (1, 1));
    // kubelet has replaced the token, and the upstream is down.
    world.upstream(Upstream::Fails(CredentialError::unavailable("away")));
    let (key, origin) = served(service.credentials(&world.token(1, 2), pod(1)).await);
    assert_eq!((key.as_str(), origin, world.calls()), ("ASIA1", Origin::Cached, 1));
}

#[tokio::test(start_paused = true)]
async fn refused_token_discovers_no_keys() {
    let (world, attacker) = (World::new(), Key::p256("evil"));
    let endpoint = Endpoint::new(&[&attacker]);
    let service = service(&world, &endpoint);
    let refused = CredentialError::new(ErrorCode::TokenRefused, "the upstream refuses the token");
    world.upstream(Upstream::Fails(refused));
    let theirs = token(&attacker, "https://evil.example.com", 1, 1);
    assert_eq!(code(service.credentials(&theirs, pod(6)).await), ErrorCode::TokenRefused);
    world.pass(MINUTE).await;
    assert_eq!(endpoint.fetches(), 0, "a pod made the service fetch a URL of its choice");
}

/// Discovered keys refuse only tokens that they disprove.
#[tokio::test(start_paused = true)]
async fn upstream_verifies_tokens_that_discovered_keys_cannot_verify() {
    let (world, new) = (World::new(), Key::p256("new"));
    let endpoint = Endpoint::new(&[&world.key]);
    let service = service(&world, &endpoint);
    service.credentials(&world.token(1, 1), pod(1)).await.unwrap();
    settle().await;
    // A token of an unknown key, one of another issuer, and one with an expired claim.
    service.credentials(&token(&new, ISSUER, 2, 1), pod(2)).await.unwrap();
    service.credentials(&token(&new, "https://other.example.com", 3, 1), pod(3)).await.unwrap();
    assert_eq!(world.calls(), 3);
    world.jump(Duration::from_secs(86_401)).await;
    assert_eq!(code(service.credentials(&world.token(1, 1), pod(1)).await), ErrorCode::TokenExpired);
    assert_eq!(world.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn new_key_is_discovered_from_an_accepted_token() {
    let (world, new) = (World::new(), Key::p256("new"));
    let endpoint = Endpoint::new(&[&world.key]);
    let service = service(&world, &endpoint);
    service.credentials(&world.token(1, 1), pod(1)).await.unwrap();
    settle().await;
    endpoint.publishes(Publishes::Document(document(&[&new])));
    world.pass(Duration::from_secs(31)).await;
    service.credentials(&token(&new, ISSUER, 1, 2), pod(1)).await.unwrap();
    settle().await;
    assert_eq!((world.calls(), endpoint.fetches()), (2, 2));
    service.credentials(&token(&new, ISSUER, 1, 3), pod(1)).await.unwrap();
    assert_eq!(world.calls(), 2, "the new key does not verify here");
}

#[tokio::test(start_paused = true)]
async fn keys_that_do_not_verify_an_accepted_token_are_not_used() {
    let (world, other) = (World::new(), Key::p256("a"));
    let endpoint = Endpoint::new(&[&other]);
    let service = service(&world, &endpoint);
    service.credentials(&world.token(1, 1), pod(1)).await.unwrap();
    settle().await;
    assert_eq!(endpoint.fetches(), 1);
    let refused = CredentialError::new(ErrorCode::TokenRefused, "the upstream refuses the token");
    world.upstream(Upstream::Fails(refused));
    // These keys verify this token, which would get the credentials of the pod.
    assert_eq!(
        code(service.credentials(&token(&other, ISSUER, 1, 2), pod(2)).await),
        ErrorCode::TokenRefused
    );
}

#[tokio::test(start_paused = true)]
async fn upstream_verifies_tokens_of_an_issuer_whose_keys_cannot_be_fetched_safely() {
    let world = World::new();
    let endpoint = Endpoint::new(&[&world.key]);
    let service = service(&world, &endpoint);
    let plain = |number| token(&world.key, "http://oidc.example.com", 1, number);
    for number in 1..=2 {
        service.credentials(&plain(number), pod(1)).await.unwrap();
        settle().await;
    }
    assert_eq!((world.calls(), endpoint.fetches()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn panic_of_the_closure_stops_nothing() {
    let world = World::new();
    let discovered = TokenVerification::discovered(|_| panic!("the closure panics for this test"));
    let service = world.builder().cluster(cluster("demo"), discovered).build().unwrap();
    for number in 1..=3 {
        let (key, origin) = served(service.credentials(&world.token(number, 1), pod(1)).await);
        assert_eq!((key, origin), (format!("ASIA{number}"), Origin::Fetched));
    }
}

/// The upstream may have more keys than the issuer publishes, so it verifies the token again. The credentials stay.
#[tokio::test(start_paused = true)]
async fn upstream_verifies_tokens_of_a_withdrawn_key() {
    let (world, new) = (World::new(), Key::p256("new"));
    let endpoint = Endpoint::new(&[&world.key]);
    let service = service(&world, &endpoint);
    service.credentials(&world.token(1, 1), pod(1)).await.unwrap();
    settle().await;
    endpoint.publishes(Publishes::Document(document(&[&new])));
    world.pass(Duration::from_secs(301)).await;
    let refused = CredentialError::new(ErrorCode::TokenRefused, "the upstream refuses the token");
    world.upstream(Upstream::Fails(refused));
    assert_eq!(code(service.credentials(&world.token(1, 1), pod(1)).await), ErrorCode::TokenRefused);
    assert_eq!(world.calls(), 2, "the token of the withdrawn key is still known");
    let replaced = service.credentials(&token(&new, ISSUER, 1, 2), pod(1)).await;
    assert_eq!(served(replaced), ("ASIA1".to_owned(), Origin::Cached));
    world.upstream(Upstream::Issues);
    assert_eq!(served(service.credentials(&world.token(2, 1), pod(2)).await).1, Origin::Fetched);
}
