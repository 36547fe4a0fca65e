//! A cache like the agent's, with identities and tokens without cryptography.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pod_identity_core::cache::{Begin, CacheConfig, CredentialCache, Entry, Issued, UnusableResponse};
use pod_identity_core::error::{CacheEffect, UpstreamError};
use pod_identity_core::identity::WorkloadIdentity;
use pod_identity_core::time::{Expires, Now};
use pod_identity_core::token::{PodToken, TokenDigest};
use zeroize::Zeroizing;

use crate::signed::{Error, ISSUER, valid_at};

/// Approximate length of a pod token.
pub const TOKEN_LENGTH: usize = 1200;
/// Approximate length of the JSON for a pod.
pub const JSON_LENGTH: usize = 1300;

/// Lifetime of a token: a day.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(86_400);

/// A cached value: the JSON of a response, with its expiry.
#[derive(Debug)]
pub struct Value {
    json: Zeroizing<Vec<u8>>,
    expires_at: SystemTime,
}

impl Value {
    /// Makes a value with a lifetime.
    pub fn new(now: Now, lifetime: Duration) -> Self {
        Self { json: Zeroizing::new(vec![b'j'; JSON_LENGTH]), expires_at: now.wall + lifetime }
    }

    /// Returns whether the value has not expired.
    pub fn is_valid(&self, now: Now) -> bool {
        !self.json.is_empty() && now.wall < self.expires_at
    }
}

impl Expires for Value {
    fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

/// An error that never occurs.
#[derive(Debug)]
pub struct Unavailable;

impl UpstreamError for Unavailable {
    fn effect(&self) -> CacheEffect {
        CacheEffect::CallFailed
    }
}

impl From<UnusableResponse> for Unavailable {
    fn from(_: UnusableResponse) -> Self {
        Self
    }
}

/// The pod of credentials, as in the agent's cache.
pub type Identity = Arc<WorkloadIdentity>;
/// The cache.
pub type Cache = CredentialCache<Identity, Value, Unavailable>;

/// Makes an empty cache.
pub fn cache(capacity: usize) -> Cache {
    Cache::new(CacheConfig { capacity, ..CacheConfig::default() })
}

/// Returns a fixed time.
pub fn now() -> Now {
    Now { wall: valid_at(), monotonic: Duration::from_secs(1000) }
}

/// Makes the token of an identity after a number of rotations: the claims of a pod, and an invalid signature.
///
/// # Errors
/// If the text is not a token, which is a bug.
pub fn token(number: u32, rotation: u32) -> Result<PodToken, Error> {
    let identity = identity(number)?;
    let claims = serde_json::json!({
        "iss": identity.issuer, "sub": identity.subject(), "aud": ["pods.eks.amazonaws.com"],
        "exp": 1_795_417_200_u64, "nbf": 1_795_330_800_u64, "iat": 1_795_330_800_u64,
        "jti": format!("{number:010}-{rotation:010}"),
        "kubernetes.io": {
            "namespace": identity.namespace,
            "serviceaccount": {"name": identity.service_account, "uid": identity.service_account_uid},
            "pod": {"name": identity.pod.name, "uid": identity.pod.uid},
            "node": {"name": "ip-10-0-0-1.eu-west-1.compute.internal", "uid": "00000000-2222-4222-8333-000000000000"},
        },
    });
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    Ok(PodToken::parse(&format!("{}.{payload}.{}", "h".repeat(56), "s".repeat(342)))?)
}

/// Returns the identity of a number.
///
/// # Errors
/// If a generated name is invalid, which is a bug.
pub fn identity(number: u32) -> Result<Identity, Error> {
    let service_account = format!("checkout-service-{number}");
    Ok(Arc::new(WorkloadIdentity {
        issuer: ISSUER.to_owned(),
        namespace: "online-shop".parse()?,
        pod: pod_identity_core::identity::Pod {
            name: format!("{service_account}-7c9d6b5f4d-x2k9q").parse()?,
            uid: format!("00000000-1111-4222-8333-{number:012}").parse()?,
        },
        service_account: service_account.parse()?,
        service_account_uid: format!("99999999-1111-4222-8333-{number:012}").parse()?,
    }))
}

/// Serves a request with a known token, like most requests to the agent: by the digest of the header.
pub fn hit(cache: &Cache, token: &PodToken, now: Now) -> Option<Arc<Entry<Value>>> {
    cache.hit(&TokenDigest::of_text(token.bearer().expose().as_bytes()), now)
}

/// Serves a request with the verified identity of its token.
pub fn begin(cache: &Cache, token: &PodToken, now: Now, identity: &Identity) -> Option<Arc<Entry<Value>>> {
    if let Some(entry) = cache.hit(&token.digest(), now) {
        return Some(entry);
    }
    let verified = Some((identity.clone(), now.wall + TOKEN_LIFETIME));
    match cache.begin(token, verified, cache.generation(), now) {
        Begin::Hit(entry) => Some(entry),
        _ => None,
    }
}

/// Makes a request without an entry, and its fetch.
///
/// # Errors
/// If there was an entry.
pub fn fetched(
    cache: &Cache,
    token: &PodToken,
    number: u32,
    now: Now,
    lifetime: Duration,
) -> Result<(), Error> {
    let identity = identity(number)?;
    let token_expires_at = now.wall + TOKEN_LIFETIME;
    let verified = Some((identity.clone(), token_expires_at));
    let Begin::Lead(leader, _) = cache.begin(token, verified, cache.generation(), now) else {
        return Err("there was an entry".into());
    };
    leader.complete(now, Ok(Issued { identity, token_expires_at, value: Value::new(now, lifetime) }));
    Ok(())
}
