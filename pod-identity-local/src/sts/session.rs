//! Role sessions, recorded in memory until some time after their expiry.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pod_identity_core::arn::RoleArn;

use super::caller::Principal;
use super::error::StsError;
use super::random;
use crate::fixture::SecretText;

/// Maximum number of recorded sessions, at about 2 KiB each.
const MAX_SESSIONS: usize = 50_000;
/// Time that an expired session stays recorded, so that its user gets `ExpiredToken`.
const EXPIRED_RETENTION: Duration = Duration::from_secs(3600);

/// One role session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: SecretText,
    pub(super) session_token: SecretText,
    pub(super) role: RoleArn,
    pub(super) name: String,
    pub(super) policy: Option<String>,
    pub(super) policy_arns: Vec<String>,
    pub(super) created: SystemTime,
    pub(super) expiration: SystemTime,
    pub(super) principal: Arc<Principal>,
}

impl Session {
    /// Creates a session with new random keys.
    pub(super) fn new(
        role: RoleArn,
        name: String,
        principal: Principal,
        life: (SystemTime, SystemTime),
        token_size: usize,
    ) -> Self {
        Self {
            access_key_id: random::session_key_id(),
            secret_access_key: SecretText::new(random::secret()),
            session_token: SecretText::new(random::session_token(token_size)),
            role,
            name,
            policy: None,
            policy_arns: Vec::new(),
            created: life.0,
            expiration: life.1,
            principal: Arc::new(principal),
        }
    }
}

/// The recorded sessions.
pub(super) struct Sessions {
    by_key: HashMap<String, Session>,
    limit: usize,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { by_key: HashMap::new(), limit: MAX_SESSIONS }
    }
}

impl Sessions {
    pub(super) fn by_key(&self, access_key_id: &str) -> Option<&Session> {
        self.by_key.get(access_key_id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Session> {
        self.by_key.values()
    }

    /// Records a session. At the limit, expired sessions are dropped and unexpired ones stay.
    pub(super) fn insert(&mut self, session: Session, now: SystemTime) -> Result<(), StsError> {
        if self.by_key.len() >= self.limit {
            let oldest = now.checked_sub(EXPIRED_RETENTION).unwrap_or(now);
            self.by_key.retain(|_, kept| kept.expiration > oldest);
            if self.by_key.len() >= self.limit {
                self.by_key.retain(|_, kept| kept.expiration > now);
            }
        }
        if self.by_key.len() >= self.limit {
            return Err(StsError::too_many_sessions());
        }
        self.by_key.insert(session.access_key_id.clone(), session);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pod_identity_core::trust::Caller;

    use super::*;

    fn session(expiration: SystemTime) -> Session {
        let principal = Principal {
            caller: Caller::Service { name: "a.b".into() },
            user_policies: vec![],
            session_policies: None,
            tags: crate::tags::Tags::default(),
            transitive: vec![],
            source_identity: None,
            source_account: None,
            source_arn: None,
            chain: vec![],
            account: String::new(),
        };
        let role = "arn:aws:iam::111122223333:role/app".parse().unwrap();
        Session::new(role, "s1".into(), principal, (SystemTime::UNIX_EPOCH, expiration), 0)
    }

    #[test]
    fn drops_only_expired_sessions_at_the_limit() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100_000);
        let mut sessions = Sessions { limit: 3, ..Sessions::default() };
        let long_over = session(now - EXPIRED_RETENTION);
        let just_over = session(now);
        let (over, recent) = (long_over.access_key_id.clone(), just_over.access_key_id.clone());
        for kept in [long_over, just_over, session(now + EXPIRED_RETENTION), session(now + EXPIRED_RETENTION)]
        {
            sessions.insert(kept, now).unwrap();
        }
        assert!(sessions.by_key(&over).is_none() && sessions.by_key(&recent).is_some());
        sessions.insert(session(now + EXPIRED_RETENTION), now).unwrap();
        assert!(sessions.by_key(&recent).is_none());
        let error = sessions.insert(session(now + EXPIRED_RETENTION), now).unwrap_err();
        assert_eq!((error.code, sessions.all().count()), ("ServiceUnavailable", 3));
    }

    #[test]
    fn debug_redacts_the_secrets_of_a_session() {
        let session = session(SystemTime::UNIX_EPOCH);
        let printed = format!("{session:?}");
        assert!(!printed.contains(session.secret_access_key.expose()));
        assert!(!printed.contains(session.session_token.expose()));
    }
}
