//! Fetched keys, rotation, failed fetches and forged tokens.

use pod_identity_core::service::TokenVerification;

use super::*;

/// The result of a fetch.
#[derive(Clone)]
pub(super) enum Publishes {
    Document(Vec<u8>),
    Fails,
    Hangs,
    Panics,
}

/// A JWKS endpoint that counts fetches.
#[derive(Clone)]
pub(super) struct Endpoint(Arc<(Mutex<Publishes>, AtomicUsize)>);

impl Endpoint {
    pub(super) fn new(keys: &[&Key]) -> Self {
        Self(Arc::new((Mutex::new(Publishes::Document(document(keys))), AtomicUsize::new(0))))
    }

    pub(super) fn publishes(&self, publishes: Publishes) {
        *self.0.0.lock().unwrap() = publishes;
    }

    pub(super) fn fetches(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }

    pub(super) fn issuer(&self, url: &str) -> Issuer {
        let endpoint = self.clone();
        Issuer::fetched(url, move || {
            endpoint.0.1.fetch_add(1, Ordering::SeqCst);
            let publishes = endpoint.0.0.lock().unwrap().clone();
            async move {
                match publishes {
                    Publishes::Document(document) => Ok(document),
                    Publishes::Fails => Err("the issuer is down".into()),
                    Publishes::Hangs => std::future::pending().await,
                    Publishes::Panics => panic!("the fetch panics for this test"),
                }
            }
        })
    }
}

async fn service(world: &World, endpoint: &Endpoint) -> CredentialService {
    let service = world.builder().cluster(cluster("demo"), endpoint.issuer(ISSUER)).build().unwrap();
    settle().await;
    service
}

#[tokio::test(start_paused = true)]
async fn unknown_key_is_fetched_at_once_and_then_at_most_every_30_seconds() {
    let (world, new) = (World::new(), Key::p256("new"));
    let endpoint = Endpoint::new(&[&world.key]);
    let service = service(&world, &endpoint).await;
    service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
    assert_eq!(endpoint.fetches(), 1);
    world.pass(Duration::from_secs(31)).await;
    // The issuer rotates its keys: the first token of the new key fetches it, and tokens of the old key stay valid.
    endpoint.publishes(Publishes::Document(document(&[&world.key, &new])));
    service.credentials(&token(&new, ISSUER, 2, 1), Peer::Local).await.unwrap();
    assert_eq!(endpoint.fetches(), 2);
    service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
    // A pod invents key ids.
    for second in 0..90 {
        for number in 0..5 {
            let invented = Key::p256(&format!("invented-{second}-{number}"));
            let refused = service.credentials(&token(&invented, ISSUER, 9, 1), pod(9)).await;
            assert_eq!(code(refused), ErrorCode::TokenKeyUnknown);
        }
        world.pass(Duration::from_secs(1)).await;
    }
    assert!((4..=5).contains(&endpoint.fetches()), "{} fetches in 90 s", endpoint.fetches());
    assert_eq!(world.calls(), 2, "an invented token reached the upstream");
}

#[tokio::test(start_paused = true)]
async fn tokens_of_a_withdrawn_key_are_refused_after_the_refresh_and_not_used_for_renewals() {
    let (world, new) = (World::new(), Key::p256("new"));
    let endpoint = Endpoint::new(&[&world.key]);
    let service = service(&world, &endpoint).await;
    let old = world.token(1, 1);
    service.credentials(&old, Peer::Local).await.unwrap();
    endpoint.publishes(Publishes::Document(document(&[&new])));
    assert_eq!(served(service.credentials(&old, Peer::Local).await).1, Origin::Cached);
    world.pass(Duration::from_secs(300)).await;
    assert_eq!(code(service.credentials(&old, Peer::Local).await), ErrorCode::TokenKeyUnknown);
    world.pass(HOUR).await;
    assert_eq!(world.calls(), 1, "a token of the withdrawn key was sent to the upstream");
    // The pod's new token gets credentials.
    service.credentials(&token(&new, ISSUER, 1, 2), Peer::Local).await.unwrap();
}

/// The new key has the id of a stolen key, so documents are compared, not ids.
#[tokio::test(start_paused = true)]
async fn new_key_with_an_old_id_refuses_known_tokens_of_the_old_key() {
    let (world, same_id) = (World::new(), Key::p256("a"));
    let endpoint = Endpoint::new(&[&world.key]);
    let service = service(&world, &endpoint).await;
    let old = world.token(1, 1);
    service.credentials(&old, Peer::Local).await.unwrap();
    endpoint.publishes(Publishes::Document(document(&[&same_id])));
    world.pass(Duration::from_secs(300)).await;
    assert_eq!(code(service.credentials(&old, Peer::Local).await), ErrorCode::TokenSignatureInvalid);
}

#[tokio::test(start_paused = true)]
async fn old_keys_stay_in_use_while_fetches_fail() {
    let world = World::new();
    let endpoint = Endpoint::new(&[&world.key]);
    let service = service(&world, &endpoint).await;
    for publishes in [Publishes::Fails, Publishes::Panics, Publishes::Document(b"{}".to_vec())] {
        let before = endpoint.fetches();
        endpoint.publishes(publishes);
        world.pass(Duration::from_secs(900)).await;
        assert!(endpoint.fetches() > before + 2, "the fetch is not repeated");
        let number = u32::try_from(endpoint.fetches()).unwrap(); // a token that is not known yet
        service.credentials(&world.token(1, number), Peer::Local).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn requests_before_the_first_keys_get_a_retryable_error() {
    for publishes in [Publishes::Fails, Publishes::Panics, Publishes::Hangs] {
        let world = World::new();
        let endpoint = Endpoint::new(&[&world.key]);
        endpoint.publishes(publishes);
        let service = service(&world, &endpoint).await;
        let start = tokio::time::Instant::now();
        let error = service.credentials(&world.token(1, 1), Peer::Local).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        assert_eq!((error.code(), error.status()), (ErrorCode::TokenKeyUnknown, 503));
        endpoint.publishes(Publishes::Document(document(&[&world.key])));
        tokio::time::sleep(Duration::from_secs(10)).await; // the hanging fetch ends
        world.pass(Duration::from_secs(3)).await;
        service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_a_forged_token_in_each_verification_mode() {
    for mode in ["keys", "upstream", "discovered"] {
        let (world, forger) = (World::new(), Key::p256("a"));
        let endpoint = Endpoint::new(&[&world.key]);
        let verification = match mode {
            "keys" => TokenVerification::from(world.issuer()),
            "upstream" => TokenVerification::upstream(),
            _ => {
                let endpoint = endpoint.clone();
                TokenVerification::discovered(move |url| Some(endpoint.issuer(url)))
            }
        };
        let service = world.builder().cluster(cluster("demo"), verification).build().unwrap();
        let good = world.token(1, 1);
        service.credentials(&good, pod(1)).await.unwrap();
        settle().await; // keys are discovered
        // The forged tokens have the claims of the pod whose credentials are cached.
        let refused = CredentialError::new(ErrorCode::TokenRefused, "the upstream refuses the token");
        world.upstream(Upstream::Fails(refused));
        let unsigned = good.rsplit_once('.').unwrap().0.to_owned() + ".AAAA";
        for forged in [token(&forger, ISSUER, 1, 1), unsigned] {
            let denied = service.credentials(&forged, pod(2)).await;
            let wanted =
                if mode == "upstream" { ErrorCode::TokenRefused } else { ErrorCode::TokenSignatureInvalid };
            assert_eq!(code(denied), wanted, "{mode}");
        }
        let calls = if mode == "upstream" { 3 } else { 1 };
        assert_eq!(world.calls(), calls, "{mode}");
        assert_eq!(served(service.credentials(&good, pod(1)).await), ("ASIA1".to_owned(), Origin::Cached));
        assert_eq!(service.statistics().cached, 1, "{mode}");
    }
}

/// A forged token does not wait for the call of a valid one, and does not fail it.
#[tokio::test(start_paused = true)]
async fn unverified_tokens_share_no_call() {
    let (world, forger) = (World::new(), Key::p256("a"));
    let service = world.builder().cluster(cluster("demo"), TokenVerification::upstream()).build().unwrap();
    let permits = world.block();
    let request = |token: String| {
        let service = service.clone();
        tokio::spawn(async move { service.credentials(&token, pod(1)).await })
    };
    let good = request(world.token(1, 1));
    settle().await;
    let refused = CredentialError::new(ErrorCode::TokenRefused, "the upstream refuses the token");
    world.upstream(Upstream::Fails(refused));
    assert_eq!(code(request(token(&forger, ISSUER, 1, 1)).await.unwrap()), ErrorCode::TokenRefused);
    assert_eq!(world.calls(), 2);
    permits.add_permits(1);
    assert_eq!(served(good.await.unwrap()), ("ASIA1".to_owned(), Origin::Fetched));
}

#[tokio::test(start_paused = true)]
async fn key_file_is_read_again_and_an_invalid_file_leaves_the_old_keys() {
    let (world, new) = (World::new(), Key::p256("new"));
    let path = std::env::temp_dir().join(format!("pod-identity-core-{}.json", std::process::id()));
    std::fs::write(&path, document(&[&world.key])).unwrap();
    let service = world.builder().cluster(cluster("demo"), Issuer::file(ISSUER, &path)).build().unwrap();
    // Files are read on another thread.
    let read = || async {
        for _ in 0..50 {
            settle().await;
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    read().await;
    service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
    std::fs::write(&path, document(&[&new])).unwrap();
    world.jump(Duration::from_secs(301)).await;
    read().await;
    service.credentials(&token(&new, ISSUER, 1, 2), Peer::Local).await.unwrap();
    assert_eq!(code(service.credentials(&world.token(1, 1), Peer::Local).await), ErrorCode::TokenKeyUnknown);
    std::fs::write(&path, vec![b' '; 300 * 1024]).unwrap();
    world.jump(Duration::from_secs(301)).await;
    read().await;
    service.credentials(&token(&new, ISSUER, 1, 3), Peer::Local).await.unwrap();
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test(start_paused = true)]
async fn credentials_of_a_pod_outlive_the_key_of_its_token() {
    let (world, new) = (World::new(), Key::p256("new"));
    let endpoint = Endpoint::new(&[&world.key]);
    let service = service(&world, &endpoint).await;
    service.credentials(&world.token(1, 1), Peer::Local).await.unwrap();
    endpoint.publishes(Publishes::Document(document(&[&new])));
    world.pass(Duration::from_secs(301)).await;
    assert_eq!(code(service.credentials(&world.token(1, 1), Peer::Local).await), ErrorCode::TokenKeyUnknown);
    let replaced = service.credentials(&token(&new, ISSUER, 1, 2), Peer::Local).await;
    assert_eq!(served(replaced), ("ASIA1".to_owned(), Origin::Cached));
}
