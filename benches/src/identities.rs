//! A cache as the agent has it, with identities and tokens that cost no cryptography.

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

/// The length of a pod's token, about.
pub const TOKEN_LENGTH: usize = 1200;
/// The length of the JSON that a pod gets, about.
pub const JSON_LENGTH: usize = 1300;

/// How long a token holds: a day.
pub const TOKEN_LIFE: Duration = Duration::from_secs(86_400);

/// What is kept for an identity: an answer's JSON, with its end.
#[derive(Debug)]
pub struct Value {
    json: Zeroizing<Vec<u8>>,
    expires_at: SystemTime,
}

impl Value {
    /// A value that ends so much later.
    pub fn new(now: Now, lifetime: Duration) -> Self {
        Self { json: Zeroizing::new(vec![b'j'; JSON_LENGTH]), expires_at: now.wall + lifetime }
    }

    /// Whether it has not ended.
    pub fn is_good(&self, now: Now) -> bool {
        !self.json.is_empty() && now.wall < self.expires_at
    }
}

impl Expires for Value {
    fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

/// An error that is never had.
#[derive(Debug)]
pub struct Away;

impl UpstreamError for Away {
    fn effect(&self) -> CacheEffect {
        CacheEffect::CallFailed
    }
}

impl From<UnusableResponse> for Away {
    fn from(_: UnusableResponse) -> Self {
        Self
    }
}

/// Whose credentials they are, as the agent keeps it.
pub type Identity = Arc<WorkloadIdentity>;
/// The cache.
pub type Cache = CredentialCache<Identity, Value, Away>;

/// An empty cache.
pub fn cache(capacity: usize) -> Cache {
    Cache::new(CacheConfig { capacity, ..CacheConfig::default() })
}

/// Some time.
pub fn now() -> Now {
    Now { wall: valid_at(), monotonic: Duration::from_secs(1000) }
}

/// Makes the token that an identity has after so many rotations: claims of a pod, and a signature that nobody checks.
///
/// # Errors
/// If the text is no token, which is a bug.
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

/// Who has the token of that number.
///
/// # Errors
/// None: its names are names.
pub fn identity(number: u32) -> Result<Identity, Error> {
    let account = format!("checkout-service-{number}");
    Ok(Arc::new(WorkloadIdentity {
        issuer: ISSUER.to_owned(),
        namespace: "online-shop".parse()?,
        pod: pod_identity_core::identity::Pod {
            name: format!("{account}-7c9d6b5f4d-x2k9q").parse()?,
            uid: format!("00000000-1111-4222-8333-{number:012}").parse()?,
        },
        service_account: account.parse()?,
        service_account_uid: format!("99999999-1111-4222-8333-{number:012}").parse()?,
    }))
}

/// Serves a request of a known token as the agent serves most requests: by the digest of the header's text.
pub fn hit(cache: &Cache, token: &PodToken, now: Now) -> Option<Arc<Entry<Value>>> {
    cache.hit(&TokenDigest::of_text(token.bearer().expose().as_bytes()), now)
}

/// Serves a request with the verified identity of its token.
pub fn begin(cache: &Cache, token: &PodToken, now: Now, identity: &Identity) -> Option<Arc<Entry<Value>>> {
    if let Some(entry) = cache.hit(&token.digest(), now) {
        return Some(entry);
    }
    let verified = Some((identity.clone(), now.wall + TOKEN_LIFE));
    match cache.begin(token, verified, cache.generation(), now) {
        Begin::Hit(entry) => Some(entry),
        _ => None,
    }
}

/// Makes a request that finds nothing, and the fetch that it leads.
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
    let token_expires_at = now.wall + TOKEN_LIFE;
    let verified = Some((identity.clone(), token_expires_at));
    let Begin::Lead(leader, _) = cache.begin(token, verified, cache.generation(), now) else {
        return Err("there was something to hit".into());
    };
    leader.complete(now, Ok(Issued { identity, token_expires_at, value: Value::new(now, lifetime) }));
    Ok(())
}
