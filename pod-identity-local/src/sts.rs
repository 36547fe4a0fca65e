//! An STS with the checks and the error messages of AWS's STS.
//!
//! It has no socket and no clock: the caller passes each request and the time. It serves `AssumeRole`,
//! `AssumeRoleWithWebIdentity` and `GetCallerIdentity` in the query protocol with XML (service model of STS
//! 2011-06-15). It verifies signatures and evaluates trust policies over a [`Fixture`]. It records its sessions, so
//! that a test can [inspect](Sts::inspect) their tags. No API of AWS returns them.
//!
//! AWS does not state the reason of a denial. [`Sts::last_denial`] does.
//!
//! Two rules of AWS are unknown and estimated: the packed size of policies and tags (see `packed.rs`), and the order of
//! checks of a request with several errors.

mod assume_role;
mod caller;
mod caller_identity;
mod error;
mod inspect;
pub(crate) mod limits;
mod packed;
mod query;
pub(crate) mod random;
mod response;
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

use crate::fixture::Fixture;
use caller::Principal;
use error::StsError;
use inspect::Denials;
use query::Form;
use session::Sessions;
use xml::Element;

/// Maximum size of a request body in bytes. The largest token, the largest policy and fifty tags fit, percent-encoded.
pub const MAX_BODY: usize = 256 * 1024;

const VERSION: &str = "2011-06-15";

type IssuerKeys = dyn Fn(&str) -> Option<Arc<KeySet>> + Send + Sync;

/// The local STS.
pub struct Sts {
    fixture: Fixture,
    issuer_keys: Box<IssuerKeys>,
    expire_after: Option<Duration>,
    sessions: Mutex<Sessions>,
    denials: Mutex<Denials>,
}

impl fmt::Debug for Sts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sts").field("fixture", &self.fixture).finish_non_exhaustive()
    }
}

impl Sts {
    /// Creates an STS for a fixture. It refuses every web identity token until it has [issuer keys](Self::issuer_keys).
    pub fn new(fixture: Fixture) -> Self {
        Self {
            fixture,
            issuer_keys: Box::new(|_| None),
            expire_after: None,
            sessions: Mutex::default(),
            denials: Mutex::default(),
        }
    }

    /// Sets the lookup of an issuer's keys by its URL. AWS fetches the keys.
    #[must_use]
    pub fn issuer_keys(mut self, keys: impl Fn(&str) -> Option<Arc<KeySet>> + Send + Sync + 'static) -> Self {
        self.issuer_keys = Box::new(keys);
        self
    }

    /// Sets a maximum lifetime for every session, for tests of expiry. The minimum of AWS is 15 minutes.
    #[must_use]
    pub fn expire_after(mut self, limit: Duration) -> Self {
        self.expire_after = Some(limit);
        self
    }

    /// Returns the fixture.
    pub fn fixture(&self) -> &Fixture {
        &self.fixture
    }

    /// Responds to one request.
    pub fn handle(&self, parts: &Parts, body: &[u8], now: SystemTime) -> http::Response<Bytes> {
        let request_id = uuid::Uuid::new_v4().to_string();
        match self.dispatch(parts, body, &request_id, now) {
            Ok((operation, result)) => response::success(operation, &result, &request_id),
            Err(error) => {
                tracing::debug!(code = error.code, message = ?error.message, request_id, "request refused");
                response::error(&error, &request_id)
            }
        }
    }

    fn dispatch(
        &self,
        parts: &Parts,
        body: &[u8],
        request_id: &str,
        now: SystemTime,
    ) -> Result<(&'static str, Vec<Element>), StsError> {
        if body.len() > MAX_BODY {
            return Err(StsError::too_large());
        }
        let form = Form::read(parts, body)?;
        let action = form.value("Action").ok_or_else(StsError::missing_action)?;
        if form.value("Version") != Some(VERSION) {
            return Err(StsError::unknown_action(action, form.value("Version")));
        }
        let call = Call { sts: self, form: &form, request_id, now };
        match action {
            "AssumeRole" => {
                Ok(("AssumeRole", call.assume_role(self.authenticate(parts, body, now)?.as_ref())?))
            }
            "AssumeRoleWithWebIdentity" => {
                Ok(("AssumeRoleWithWebIdentity", call.assume_role_with_web_identity()?))
            }
            "GetCallerIdentity" => {
                let principal = self.authenticate(parts, body, now)?;
                Ok(("GetCallerIdentity", caller_identity::result(&principal)))
            }
            other => Err(StsError::unknown_action(other, Some(VERSION))),
        }
    }

    /// Verifies the signature and returns the caller.
    fn authenticate(&self, parts: &Parts, body: &[u8], now: SystemTime) -> Result<Arc<Principal>, StsError> {
        let secret_of = |key: &str| {
            let known = self.fixture.callers().find(|caller| caller.access_key_id == key);
            let secret = match known {
                Some(caller) => Some(caller.secret_access_key.clone()),
                None => self.lock_sessions().by_key(key).map(|session| session.secret_access_key.clone()),
            };
            secret.map(|secret| Secret::from(secret.expose().to_owned()))
        };
        let signer = sigv4::verify(parts, body, "sts", None, secret_of, now)
            .map_err(|error: SigV4Error| StsError::signature(&error))?;
        let (token, expiration, principal) =
            match self.fixture.callers().find(|caller| caller.access_key_id == signer.access_key_id) {
                Some(known) => {
                    let token = known.session_token.as_ref().map(|token| token.expose().to_owned());
                    (token, None, Arc::new(Principal::from_fixture(known, &self.fixture)))
                }
                None => {
                    let sessions = self.lock_sessions();
                    let session =
                        sessions.by_key(&signer.access_key_id).ok_or_else(StsError::invalid_client_token)?;
                    let token = session.session_token.expose().to_owned();
                    (Some(token), Some(session.expiration), session.principal.clone())
                }
            };
        if token != signer.session_token {
            return Err(StsError::invalid_client_token());
        }
        if expiration.is_some_and(|expiration| expiration <= now) {
            return Err(StsError::expired_credentials());
        }
        Ok(principal)
    }

    fn lock_sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_denials(&self) -> MutexGuard<'_, Denials> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request of an operation.
#[derive(Clone, Copy)]
struct Call<'a> {
    sts: &'a Sts,
    form: &'a Form,
    request_id: &'a str,
    now: SystemTime,
}
