//! Errors, as the embedder's HTTP server sends them.

use super::*;

async fn error_of(world: &World, upstream: CredentialError) -> CredentialError {
    world.upstream(Upstream::Fails(upstream));
    let service = world.service();
    service.credentials(&world.token(1, 1), Peer::Local).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn error_of_the_source_is_returned_with_its_fix_and_code() {
    let world = World::new();
    let refused = CredentialError::new(ErrorCode::RoleTrustRefused, "STS refuses role cart.");
    let error = error_of(&world, refused).await;
    assert_eq!((error.status(), error.retry_after()), (403, None));
    let body: serde_json::Value = serde_json::from_slice(&error.body()).unwrap();
    assert_eq!(body["code"], "role_trust_refused");
    assert_eq!(body["Code"], body["code"]);
    assert_eq!(body["Message"], body["message"]);
    let message =
        format!("STS refuses role cart. {} [role_trust_refused]", ErrorCode::RoleTrustRefused.fix());
    assert_eq!(body["message"], message);
    assert_eq!(error.message(), "STS refuses role cart.");

    let complete =
        CredentialError::new(ErrorCode::AccessDenied, "The message of the upstream. [access_denied]");
    let error = error_of(&world, complete.with_complete_message()).await;
    assert_eq!(error.to_string(), "The message of the upstream. [access_denied]");
}

#[tokio::test(start_paused = true)]
async fn retryable_error_is_a_503_with_the_pause_of_the_upstream() {
    let world = World::new();
    let unavailable = CredentialError::unavailable("the vault is sealed").attempt_again(false);
    let error = error_of(&world, unavailable.clone()).await;
    assert_eq!((error.status(), error.retry_after()), (503, Some(Duration::from_secs(2))));
    let error = error_of(&world, unavailable.with_retry_after(Some(Duration::from_millis(7200)))).await;
    assert_eq!((error.status(), error.retry_after()), (503, Some(Duration::from_secs(8))));
}

#[tokio::test(start_paused = true)]
async fn text_that_is_not_a_pod_token_is_refused_without_a_call() {
    let world = World::new();
    let service = world.service();
    let unbound = {
        let claims = serde_json::json!({"iss": ISSUER, "sub": "system:serviceaccount:shop:cart",
            "aud": ["pods.eks.amazonaws.com"], "exp": NOW + 600, "iat": NOW});
        world.key.sign(&world.key.header(), &claims)
    };
    let long = format!("a.b.{}", "c".repeat(20_000));
    for (text, wanted) in [
        ("", ErrorCode::AuthorizationMissing),
        ("Bearer a.b.c", ErrorCode::TokenMalformed),
        ("e30.e30.c2ln", ErrorCode::TokenMalformed),
        (long.as_str(), ErrorCode::TokenMalformed),
        (unbound.as_str(), ErrorCode::TokenNotPodBound),
    ] {
        let error = service.credentials(text, Peer::Local).await.unwrap_err();
        assert_eq!((error.code(), error.status()), (wanted, 400), "{text}");
    }
    assert_eq!(world.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_cannot_be_served_are_an_error() {
    let world = World::new();
    let service = world.service();
    for (lifetime, wanted) in [
        (Duration::ZERO, ErrorCode::ClockAhead),
        (Duration::from_secs(400_000_000_000), ErrorCode::Internal), // beyond the year 9999
    ] {
        *world.source.lifetime.lock().unwrap() = lifetime;
        assert_eq!(code(service.credentials(&world.token(1, 1), Peer::Local).await), wanted);
        world.pass(Duration::from_secs(40)).await;
    }
    assert_eq!(service.statistics().in_flight, 0);
}

/// EKS is eventually consistent: a response may not have a new association for seconds. An existing one must stay.
#[tokio::test(start_paused = true)]
async fn refusal_that_may_be_outdated_counts_after_30_seconds() {
    let gone = CredentialError::new(ErrorCode::AssociationNotFound, "no association").eventually_consistent();
    let world = World::new();
    let service = world.service();
    service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
    world.upstream(Upstream::Fails(gone));
    while world.calls() == 1 {
        world.pass(Duration::from_secs(1)).await;
    }
    world.pass(Duration::from_secs(20)).await;
    assert!(service.credentials(&world.token(1, 1), Peer::Local).await.is_ok());
    world.pass(Duration::from_secs(70)).await;
    assert_eq!(
        code(service.credentials(&world.token(1, 1), Peer::Local).await),
        ErrorCode::AssociationNotFound
    );
}

#[test]
fn origin_has_a_name_for_logs_and_metrics() {
    let names = [Origin::Fetched, Origin::Shared, Origin::Cached, Origin::Stale].map(Origin::as_str);
    assert_eq!(names, ["fetched", "shared", "cached", "stale"]);
}
