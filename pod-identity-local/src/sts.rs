//! An STS that refuses what AWS's STS refuses, in its words.
//!
//! A pure function of requests and time over a [`World`]: sockets are somebody else's. It answers
//! `AssumeRole`, `AssumeRoleWithWebIdentity` and `GetCallerIdentity` in the query protocol with XML
//! (service model of STS 2011-06-15), verifies signatures, evaluates trust policies and keeps the
//! sessions it made, so that a test can [inspect](Sts::inspect) their tags, which no API of AWS shows.
//!
//! AWS says that a request is denied and not why; [`Sts::last_denial`] says why.
//!
//! Not known of the real one and estimated: the packed size of policies and tags (see `packed.rs`), and the
//! order of checks where a request has several faults.

mod answer;
mod assume_role;
mod caller;
mod caller_identity;
mod error;
mod inspect;
pub(crate) mod limits;
mod packed;
mod query;
pub(crate) mod random;
mod session;
mod session_policy;
#[cfg(test)]
mod tests;
mod validate;
mod web_identity;
mod xml;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use pod_identity_auth::sigv4::{self, Secret, SigV4Error};
use pod_identity_core::token::KeySet;

pub use inspect::{DenialView, SessionView};

use crate::world::World;
use caller::Identity;
use error::Refusal;
use inspect::Denials;
use query::Form;
use session::Sessions;
use xml::Element;

/// The largest body that is read: the largest token, policy and fifty tags, percent-encoded, fit in.
pub const MAX_BODY: usize = 256 * 1024;

const VERSION: &str = "2011-06-15";

type IssuerKeys = dyn Fn(&str) -> Option<Arc<KeySet>> + Send + Sync;

/// The local STS.
pub struct Sts {
    world: World,
    issuer_keys: Box<IssuerKeys>,
    expire_after: Option<Duration>,
    sessions: Mutex<Sessions>,
    denials: Mutex<Denials>,
}

impl fmt::Debug for Sts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sts").field("world", &self.world).finish_non_exhaustive()
    }
}

impl Sts {
    /// An STS for that world. It knows no issuer's keys yet, so it takes no web identity.
    pub fn new(world: World) -> Self {
        Self {
            world,
            issuer_keys: Box::new(|_| None),
            expire_after: None,
            sessions: Mutex::default(),
            denials: Mutex::default(),
        }
    }

    /// Where the keys of an issuer (its whole URL) come from: AWS fetches them, this STS is given them.
    #[must_use]
    pub fn issuer_keys(mut self, keys: impl Fn(&str) -> Option<Arc<KeySet>> + Send + Sync + 'static) -> Self {
        self.issuer_keys = Box::new(keys);
        self
    }

    /// Lets every session end after that time at the latest, whatever was asked for. AWS gives no less
    /// than 15 minutes; tests of expiry cannot wait for that.
    #[must_use]
    pub fn expire_after(mut self, limit: Duration) -> Self {
        self.expire_after = Some(limit);
        self
    }

    /// The world that it serves.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Answers one request whose body has been read.
    pub fn handle(&self, parts: &Parts, body: &[u8], now: SystemTime) -> http::Response<Bytes> {
        let request_id = uuid::Uuid::new_v4().to_string();
        match self.answer(parts, body, &request_id, now) {
            Ok((operation, result)) => answer::success(operation, &result, &request_id),
            Err(refusal) => {
                tracing::debug!(code = refusal.code, message = ?refusal.message, request_id, "refused");
                answer::refusal(&refusal, &request_id)
            }
        }
    }

    fn answer(
        &self,
        parts: &Parts,
        body: &[u8],
        request_id: &str,
        now: SystemTime,
    ) -> Result<(&'static str, Vec<Element>), Refusal> {
        if body.len() > MAX_BODY {
            return Err(Refusal::too_large());
        }
        let form = Form::read(parts, body)?;
        let action = form.value("Action").ok_or_else(Refusal::missing_action)?;
        if form.value("Version") != Some(VERSION) {
            return Err(Refusal::unknown_action(action, form.value("Version")));
        }
        let call = Call { sts: self, form: &form, request_id, now };
        match action {
            "AssumeRole" => Ok(("AssumeRole", call.assume_role(self.identify(parts, body, now)?.as_ref())?)),
            "AssumeRoleWithWebIdentity" => {
                Ok(("AssumeRoleWithWebIdentity", call.assume_role_with_web_identity()?))
            }
            "GetCallerIdentity" => {
                let identity = self.identify(parts, body, now)?;
                Ok(("GetCallerIdentity", caller_identity::result(&identity)))
            }
            other => Err(Refusal::unknown_action(other, Some(VERSION))),
        }
    }

    /// Who signed the request: the one place that knows how signatures are verified.
    fn identify(&self, parts: &Parts, body: &[u8], now: SystemTime) -> Result<Arc<Identity>, Refusal> {
        let secret_of = |key: &str| {
            let known = self.world.callers().find(|caller| caller.access_key_id == key);
            let secret = match known {
                Some(caller) => Some(caller.secret_access_key.clone()),
                None => self.lock_sessions().by_key(key).map(|session| session.secret_access_key.clone()),
            };
            secret.map(|secret| Secret::from(secret.expose().to_owned()))
        };
        let signer = sigv4::verify(parts, body, "sts", None, secret_of, now)
            .map_err(|error: SigV4Error| Refusal::signature(&error))?;
        let (token, expiration, identity) =
            match self.world.callers().find(|caller| caller.access_key_id == signer.access_key_id) {
                Some(known) => {
                    let token = known.session_token.as_ref().map(|token| token.expose().to_owned());
                    (token, None, Arc::new(Identity::of_known(known, &self.world)))
                }
                None => {
                    let sessions = self.lock_sessions();
                    let session =
                        sessions.by_key(&signer.access_key_id).ok_or_else(Refusal::invalid_client_token)?;
                    let token = session.session_token.expose().to_owned();
                    (Some(token), Some(session.expiration), session.identity.clone())
                }
            };
        if token != signer.session_token {
            return Err(Refusal::invalid_client_token());
        }
        if expiration.is_some_and(|expiration| expiration <= now) {
            return Err(Refusal::expired_credentials());
        }
        Ok(identity)
    }

    fn lock_sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_denials(&self) -> MutexGuard<'_, Denials> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request on its way through an operation.
#[derive(Clone, Copy)]
struct Call<'a> {
    sts: &'a Sts,
    form: &'a Form,
    request_id: &'a str,
    now: SystemTime,
}
