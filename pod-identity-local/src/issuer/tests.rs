use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Request;
use jsonwebtoken::jwk::{JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://oidc.pod-identity.test/demo";
const ALGORITHMS: [KeyAlgorithm; 3] = [KeyAlgorithm::Es256, KeyAlgorithm::Es384, KeyAlgorithm::Rs256];

fn issuer(algorithm: KeyAlgorithm) -> Issuer {
    Issuer::new(ISSUER, "http://127.0.0.1:4000/demo/", algorithm).unwrap()
}

fn request() -> TokenRequest {
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 999);
    TokenRequest {
        namespace: "shop".parse().unwrap(),
        service_account: "orders".parse().unwrap(),
        service_account_uid: "sa-uid".parse().unwrap(),
        pod: Some(pod_identity_core::identity::Pod {
            name: "orders-0".parse().unwrap(),
            uid: "pod-uid".parse().unwrap(),
        }),
        node: Some(pod_identity_core::identity::Node {
            name: "node-1".parse().unwrap(),
            uid: Some("node-uid".parse().unwrap()),
        }),
        audiences: vec!["pods.eks.amazonaws.com".to_owned()],
        issued_at: at(1_000_000),
        not_before: at(1_000_000),
        expires_at: at(1_086_400),
    }
}

fn call(issuer: &Issuer, method: &str, path: &str) -> Response<Bytes> {
    issuer.handle(&Request::builder().method(method).uri(path).body(()).unwrap().into_parts().0)
}

fn key_set(issuer: &Issuer) -> JwkSet {
    serde_json::from_slice(call(issuer, "GET", "/demo/openid/v1/jwks").body()).unwrap()
}

/// Verifies a token with another library and the published key set.
fn verify(issuer: &Issuer, token: &str) -> Option<Value> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    let keys = key_set(issuer);
    let jwk = keys.find(header.kid.as_deref()?)?;
    let algorithm: Algorithm = jwk.common.key_algorithm?.to_string().parse().ok()?;
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    let token = jsonwebtoken::decode(token, &DecodingKey::from_jwk(jwk).ok()?, &validation).ok()?;
    Some(token.claims)
}

#[test]
fn token_has_the_claims_of_kubernetes_and_verifies_with_published_keys() {
    for algorithm in ALGORITHMS {
        let issuer = issuer(algorithm);
        let token = issuer.mint(&request()).unwrap();
        let mut claims = verify(&issuer, &token).unwrap();
        let jti = claims["jti"].take();
        assert!(uuid::Uuid::parse_str(jti.as_str().unwrap()).is_ok());
        assert_eq!(
            claims,
            json!({
                "aud": ["pods.eks.amazonaws.com"],
                "exp": 1_086_400,
                "iat": 1_000_000,
                "iss": ISSUER,
                "jti": null,
                "kubernetes.io": {
                    "namespace": "shop",
                    "node": { "name": "node-1", "uid": "node-uid" },
                    "pod": { "name": "orders-0", "uid": "pod-uid" },
                    "serviceaccount": { "name": "orders", "uid": "sa-uid" },
                },
                "nbf": 1_000_000,
                "sub": "system:serviceaccount:shop:orders",
            })
        );
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!((header.kid.as_deref(), header.typ), (Some(issuer.signing_key().kid()), None));
    }
}

#[test]
fn each_token_has_its_own_id() {
    let issuer = issuer(KeyAlgorithm::Es256);
    assert_ne!(issuer.claims(&request())["jti"], issuer.claims(&request())["jti"]);
}

#[test]
fn unbound_token_names_no_pod_and_no_node() {
    let claims = issuer(KeyAlgorithm::Es256).claims(&TokenRequest { pod: None, node: None, ..request() });
    let kubernetes = claims["kubernetes.io"].as_object().unwrap();
    assert_eq!(kubernetes.keys().collect::<Vec<_>>(), ["namespace", "serviceaccount"]);
}

#[test]
fn times_before_1970_are_negative_and_rounded_down() {
    let issued_at = SystemTime::UNIX_EPOCH - Duration::from_millis(1500);
    let claims = issuer(KeyAlgorithm::Es256).claims(&TokenRequest { issued_at, ..request() });
    assert_eq!(claims["iat"], -2);
}

#[test]
fn documents_are_those_of_kube_apiserver() {
    for (algorithm, members) in [
        (KeyAlgorithm::Rs256, vec!["use", "kid", "alg", "kty", "n", "e"]),
        (KeyAlgorithm::Es256, vec!["use", "kid", "alg", "kty", "crv", "x", "y"]),
        (KeyAlgorithm::Es384, vec!["use", "kid", "alg", "kty", "crv", "x", "y"]),
    ] {
        let issuer = issuer(algorithm);
        let discovery = call(&issuer, "GET", "/demo/.well-known/openid-configuration");
        assert_eq!(discovery.headers()["content-type"], "application/json");
        assert_eq!(discovery.headers()["cache-control"], "public, max-age=3600");
        assert_eq!(
            serde_json::from_slice::<Value>(discovery.body()).unwrap(),
            json!({
                "issuer": ISSUER,
                "jwks_uri": "http://127.0.0.1:4000/demo/openid/v1/jwks",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [algorithm.name()],
            })
        );
        let jwks = call(&issuer, "GET", "/demo/openid/v1/jwks");
        assert_eq!(jwks.headers()["content-type"], "application/jwk-set+json");
        let keys: Value = serde_json::from_slice(jwks.body()).unwrap();
        let mut found: Vec<_> = keys["keys"][0].as_object().unwrap().keys().cloned().collect();
        let mut members: Vec<_> = members.into_iter().map(str::to_owned).collect();
        found.sort();
        members.sort();
        assert_eq!(found, members);
        let common = &key_set(&issuer).keys[0].common;
        assert_eq!(common.public_key_use, Some(PublicKeyUse::Signature));
    }
}

#[test]
fn key_id_is_the_digest_of_the_public_key() {
    for algorithm in ALGORITHMS {
        let key = SigningKey::generate(algorithm).unwrap();
        let digest = digest(&SHA256, key.public_der());
        assert_eq!(key.kid(), URL_SAFE_NO_PAD.encode(digest));
        let algorithm: &dyn VerificationAlgorithm = match algorithm {
            KeyAlgorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            KeyAlgorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
            KeyAlgorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        let token = key.sign_token("{}", "{}").unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let public = UnparsedPublicKey::new(algorithm, key.public_der());
        assert!(public.verify(message.as_bytes(), &signature).is_ok());

        let pem = key.public_pem();
        let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(STANDARD.decode(lines).unwrap(), key.public_der());
        assert!(pem.lines().all(|line| line.len() <= 64), "RFC 7468, section 2");
    }
}

#[test]
fn rotated_key_verifies_until_it_is_withdrawn() {
    let issuer = issuer(KeyAlgorithm::Es256);
    let old_kid = issuer.signing_key().kid().to_owned();
    let old = issuer.mint(&request()).unwrap();
    let new_kid = issuer.rotate(KeyAlgorithm::Rs256).unwrap().kid().to_owned();
    let new = issuer.mint(&request()).unwrap();
    assert_eq!(jsonwebtoken::decode_header(&new).unwrap().kid.as_deref(), Some(&*new_kid));
    assert!(verify(&issuer, &old).is_some() && verify(&issuer, &new).is_some());
    let discovery = call(&issuer, "GET", "/demo/.well-known/openid-configuration");
    let discovery: Value = serde_json::from_slice(discovery.body()).unwrap();
    assert_eq!(discovery["id_token_signing_alg_values_supported"], json!(["ES256", "RS256"]));

    assert!(!issuer.withdraw(&new_kid), "the signing key stays published");
    assert!(issuer.withdraw(&old_kid) && !issuer.withdraw(&old_kid));
    assert!(verify(&issuer, &old).is_none() && verify(&issuer, &new).is_some());
}

#[test]
fn refuses_other_paths_and_methods() {
    let issuer = issuer(KeyAlgorithm::Es256).cached_for(Duration::from_secs(5));
    for path in [
        "/",
        "/openid/v1/jwks",
        "/demo",
        "/demo/openid/v1/jwks/",
        "/demo//openid/v1/jwks",
        "/demoo/openid/v1/jwks",
    ] {
        assert_eq!(call(&issuer, "GET", path).status(), StatusCode::NOT_FOUND, "{path}");
    }
    let post = call(&issuer, "POST", "/demo/openid/v1/jwks");
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(post.headers()["allow"], "GET, HEAD");
    let (head, get) =
        (call(&issuer, "HEAD", "/demo/openid/v1/jwks"), call(&issuer, "GET", "/demo/openid/v1/jwks?x=1"));
    assert!(head.body().is_empty());
    assert_eq!(head.headers(), get.headers());
    assert_eq!(get.headers()["cache-control"], "public, max-age=5");
}

#[test]
fn refuses_invalid_issuers_and_base_urls() {
    for bad in
        ["", "oidc.test", "http://oidc.test", "https://", "https://a/?b", "https://a/#b", "https://u@a/"]
    {
        assert!(matches!(
            Issuer::new(bad, "http://127.0.0.1:1", KeyAlgorithm::Es256),
            Err(IssuerError::Issuer(_))
        ));
    }
    for bad in ["", "/demo", "ftp://a/", "http://a/?b"] {
        assert!(matches!(Issuer::new(ISSUER, bad, KeyAlgorithm::Es256), Err(IssuerError::BaseUrl(_))));
    }
}

#[test]
fn forged_tokens_do_not_verify() {
    let issuer = issuer(KeyAlgorithm::Rs256);
    let key = issuer.signing_key();
    let claims = issuer.claims(&request()).to_string();
    let header = json!({ "alg": "HS256", "kid": key.kid() }).to_string();
    let confused = forgery::hs256(&header, &claims, key.public_pem().as_bytes());
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    let secret = DecodingKey::from_secret(key.public_pem().as_bytes());
    assert!(jsonwebtoken::decode::<Value>(&confused, &secret, &validation).is_ok());

    let header = key.header().to_string();
    let good = issuer.sign(&header, &claims).unwrap();
    let stolen = forgery::with_signature_of(&good, &header, &claims.replace("shop", "bank"));
    let none = forgery::unsigned(&json!({ "alg": "none", "kid": key.kid() }).to_string(), &claims);
    assert!(verify(&issuer, &good).is_some());
    for forged in [confused, stolen, none] {
        assert!(verify(&issuer, &forged).is_none(), "{forged}");
    }
}

#[test]
fn signs_any_header_and_claims() {
    let twice = r#"{"iss":"a","iss":"b"}"#;
    let token = issuer(KeyAlgorithm::Es384).sign(r#"{"alg":"ES384","crit":["x"]}"#, twice).unwrap();
    let claims = token.split('.').nth(1).unwrap();
    assert_eq!(URL_SAFE_NO_PAD.decode(claims).unwrap(), twice.as_bytes());
}

#[test]
fn debug_omits_private_keys() {
    for algorithm in ALGORITHMS {
        let issuer = issuer(algorithm);
        let printed = format!("{issuer:?}");
        let kid = issuer.signing_key().kid().to_owned();
        assert!(
            printed.contains(&format!("SigningKey {{ algorithm: {algorithm:?}, kid: {kid:?}, .. }}")),
            "{printed}"
        );
    }
}
