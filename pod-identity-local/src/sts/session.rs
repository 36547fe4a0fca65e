//! Role sessions, recorded in memory until some time after their expiry.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pod_identity_core::arn::RoleArn;

use super::caller::Identity;
use super::error::Refusal;
use super::random;
use crate::world::SecretText;

/// Maximum number of recorded sessions, at about 2 KiB each.
const SESSIONS: usize = 50_000;
/// Time that an expired session stays recorded, so that its user gets `ExpiredToken`.
const REMEMBERED: Duration = Duration::from_secs(3600);

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
    pub(super) identity: Arc<Identity>,
}

impl Session {
    /// Creates a session with new random keys.
    pub(super) fn new(
        role: RoleArn,
        name: String,
        identity: Identity,
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
            identity: Arc::new(identity),
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
        Self { by_key: HashMap::new(), limit: SESSIONS }
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
    pub(super) fn insert(&mut self, session: Session, now: SystemTime) -> Result<(), Refusal> {
        if self.by_key.len() >= self.limit {
            let oldest = now.checked_sub(REMEMBERED).unwrap_or(now);
            self.by_key.retain(|_, kept| kept.expiration > oldest);
            if self.by_key.len() >= self.limit {
                self.by_key.retain(|_, kept| kept.expiration > now);
            }
        }
        if self.by_key.len() >= self.limit {
            return Err(Refusal::too_many_sessions());
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
        let identity = Identity {
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
        Session::new(role, "s1".into(), identity, (SystemTime::UNIX_EPOCH, expiration), 0)
    }

    #[test]
    fn only_expired_sessions_make_room() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100_000);
        let mut sessions = Sessions { limit: 3, ..Sessions::default() };
        let long_over = session(now - REMEMBERED);
        let just_over = session(now);
        let (over, recent) = (long_over.access_key_id.clone(), just_over.access_key_id.clone());
        for kept in [long_over, just_over, session(now + REMEMBERED), session(now + REMEMBERED)] {
            sessions.insert(kept, now).unwrap();
        }
        assert!(sessions.by_key(&over).is_none() && sessions.by_key(&recent).is_some());
        sessions.insert(session(now + REMEMBERED), now).unwrap();
        assert!(sessions.by_key(&recent).is_none());
        let refusal = sessions.insert(session(now + REMEMBERED), now).unwrap_err();
        assert_eq!((refusal.code, sessions.all().count()), ("ServiceUnavailable", 3));
    }

    #[test]
    fn a_session_prints_no_secret() {
        let session = session(SystemTime::UNIX_EPOCH);
        let printed = format!("{session:?}");
        assert!(!printed.contains(session.secret_access_key.expose()));
        assert!(!printed.contains(session.session_token.expose()));
    }
}
