//! Keys of an issuer that the upstream named by accepting one of its tokens.

use pod_identity_core::service::TokenVerification;

use super::keys::{Endpoint, Publishes};
use super::*;

fn service(world: &World, endpoint: &Endpoint) -> CredentialService {
    let endpoint = endpoint.clone();
    let learned =
        TokenVerification::learned(move |url| url.starts_with("https:").then(|| endpoint.issuer(url)));
    world.builder().cluster(cluster("demo"), learned).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_accepted_token_teaches_keys_and_a_replaced_token_is_no_call() {
    let world = World::new();
    let endpoint = Endpoint::new(&[&world.key]);
    let service = service(&world, &endpoint);
    settle().await;
    assert_eq!(endpoint.fetches(), 0, "nobody has named an issuer");
    service.credentials(&world.token(1, 1), pod(1)).await.unwrap();
    settle().await;
    assert_eq!((world.calls(), endpoint.fetches()), (1, 1));
    // kubelet has replaced the token, and the upstream is away.
    world.upstream(Upstream::Fails(CredentialError::unavailable("away")));
    let (key, origin) = served(service.credentials(&world.token(1, 2), pod(1)).await);
    assert_eq!((key.as_str(), origin, world.calls()), ("ASIA1", Origin::Cached, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_teaches_nothing() {
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

/// Keys save calls and are no gate: only a token that they refute is refused without a call.
#[tokio::test(start_paused = true)]
async fn what_learned_keys_cannot_settle_the_upstream_does() {
    let (world, new) = (World::new(), Key::p256("new"));
    let endpoint = Endpoint::new(&[&world.key]);
    let service = service(&world, &endpoint);
    service.credentials(&world.token(1, 1), pod(1)).await.unwrap();
    settle().await;
    // A token of a key that the service does not know yet, one of another issuer, and one with an expiry that is over.
    service.credentials(&token(&new, ISSUER, 2, 1), pod(2)).await.unwrap();
    service.credentials(&token(&new, "https://other.example.com", 3, 1), pod(3)).await.unwrap();
    assert_eq!(world.calls(), 3);
    world.jump(Duration::from_secs(86_401)).await;
    assert_eq!(code(service.credentials(&world.token(1, 1), pod(1)).await), ErrorCode::TokenExpired);
    assert_eq!(world.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_learned_from_an_accepted_token_of_it() {
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
    assert_eq!(world.calls(), 2, "the new key verifies here");
}

/// Keys that do not verify the accepted token are not its issuer's: they are not used.
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
    // By those keys this token would be good, and lead to the credentials of the pod.
    assert_eq!(
        code(service.credentials(&token(&other, ISSUER, 1, 2), pod(2)).await),
        ErrorCode::TokenRefused
    );
}

#[tokio::test(start_paused = true)]
async fn an_issuer_whose_keys_cannot_be_fetched_safely_is_left_to_the_upstream() {
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
async fn a_closure_that_panics_stops_nothing() {
    let world = World::new();
    let learned = TokenVerification::learned(|_| panic!("the closure of a test panics, as it should"));
    let service = world.builder().cluster(cluster("demo"), learned).build().unwrap();
    for number in 1..=3 {
        let (key, origin) = served(service.credentials(&world.token(number, 1), pod(1)).await);
        assert_eq!((key, origin), (format!("ASIA{number}"), Origin::Fetched));
    }
}

/// The upstream may know more keys than the issuer publishes: it verifies the token again, and the credentials stay.
#[tokio::test(start_paused = true)]
async fn a_token_of_a_withdrawn_key_is_left_to_the_upstream() {
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
    assert_eq!(world.calls(), 2, "the withdrawn key's token is not known any more");
    let replaced = service.credentials(&token(&new, ISSUER, 1, 2), pod(1)).await;
    assert_eq!(served(replaced), ("ASIA1".to_owned(), Origin::Cached));
    world.upstream(Upstream::Issues);
    assert_eq!(served(service.credentials(&world.token(2, 1), pod(2)).await).1, Origin::Fetched);
}
