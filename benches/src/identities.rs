//! A cache as the agent has it, with identities and tokens that cost no cryptography.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pod_identity_core::cache::{
    Begin, CacheConfig, CredentialCache, Effect, Entry, Expires, Issued, Refusal, UnusableAnswer,
};
use pod_identity_core::identity::WorkloadIdentity;
use pod_identity_core::now::Now;
use pod_identity_core::token::{BearerToken, TokenDigest};
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

impl Refusal for Away {
    fn effect(&self) -> Effect {
        Effect::CannotAsk
    }
}

impl From<UnusableAnswer> for Away {
    fn from(_: UnusableAnswer) -> Self {
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

/// The token that an identity has after so many rotations.
///
/// # Errors
/// None: it is a token.
pub fn token(number: u32, rotation: u32) -> Result<BearerToken, Error> {
    let payload = format!("{number:010}{rotation:010}").repeat((TOKEN_LENGTH - 400) / 20);
    Ok(BearerToken::parse(&format!("{}.{payload}.{}", "h".repeat(56), "s".repeat(342)))?)
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

/// A request of a known token, in the way in which the agent serves most of them: by the digest of the
/// header's text.
pub fn hit(cache: &Cache, token: &BearerToken, now: Now) -> Option<Arc<Entry<Value>>> {
    cache.hit(&TokenDigest::of_text(token.expose().as_bytes()), now)
}

/// A request: what it hits, if anything. `verified` is said of a token that is not known.
pub fn begin(
    cache: &Cache,
    token: &BearerToken,
    now: Now,
    verified: Option<&Identity>,
) -> Option<Arc<Entry<Value>>> {
    let verify = || verified.map(|identity| Some((identity.clone(), now.wall + TOKEN_LIFE))).ok_or(());
    match cache.begin(token, now, verify) {
        Ok(Begin::Hit(entry)) => Some(entry),
        _ => None,
    }
}

/// A request that finds nothing, and the fetch that it leads.
///
/// # Errors
/// Where there was something to find.
pub fn fetched(
    cache: &Cache,
    token: &BearerToken,
    number: u32,
    now: Now,
    lifetime: Duration,
) -> Result<(), Error> {
    let identity = identity(number)?;
    let token_expires_at = now.wall + TOKEN_LIFE;
    let begun = cache.begin(token, now, || Ok::<_, ()>(Some((identity.clone(), token_expires_at))));
    let Ok(Begin::Lead(lead, _)) = begun else { return Err("there was something to hit".into()) };
    lead.complete(now, Ok(Issued { identity, token_expires_at, value: Value::new(now, lifetime) }));
    Ok(())
}
