//! Inspection of sessions and of denials, which no API of AWS offers.

use std::collections::VecDeque;
use std::time::SystemTime;

use pod_identity_core::trust::Denial;
use serde::Serialize;

use super::session::Session;
use super::{Sts, response};
use crate::tags::Tags;

/// Maximum number of recorded denials.
const MAX_DENIALS: usize = 256;

/// A session without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// The access key id.
    pub access_key_id: String,
    /// The session's ARN.
    pub assumed_role_arn: String,
    /// The role's ARN.
    pub role_arn: String,
    /// The session's name.
    pub session_name: String,
    /// Passed and inherited session tags, without the tags of the role.
    pub tags: Tags,
    /// Keys of the transitive tags.
    pub transitive_tag_keys: Vec<String>,
    /// The source identity.
    pub source_identity: Option<String>,
    /// The inline session policy as passed.
    pub policy: Option<String>,
    /// The ARNs of the managed session policies.
    pub policy_arns: Vec<String>,
    /// The expiration in RFC 3339.
    pub expiration: String,
    /// The callers that assumed roles, the first caller first, the creator of this session last.
    pub chain: Vec<String>,
}

impl From<&Session> for SessionView {
    fn from(session: &Session) -> Self {
        let principal = &session.principal;
        let before = principal.chain.len().saturating_sub(1);
        Self {
            access_key_id: session.access_key_id.clone(),
            assumed_role_arn: session.role.session(&session.name),
            role_arn: session.role.to_string(),
            session_name: session.name.clone(),
            tags: principal.tags.clone(),
            transitive_tag_keys: principal.transitive.clone(),
            source_identity: principal.source_identity.clone(),
            policy: session.policy.clone(),
            policy_arns: session.policy_arns.clone(),
            expiration: response::timestamp(session.expiration),
            chain: principal.chain[..before].to_vec(),
        }
    }
}

/// A denied request and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DenialView {
    /// The request id, as in the response.
    pub request_id: String,
    /// The time of the request in RFC 3339.
    pub time: String,
    /// The stable code of the reason: a value of [`Denial::code`], or `record_unknown_role`.
    pub code: &'static str,
    /// The denied action, for example `sts:TagSession`.
    pub action: &'static str,
    /// The requested role.
    pub role_arn: String,
    /// The caller.
    pub caller: String,
    /// The reason as a sentence.
    pub explanation: String,
    /// The whole reason with statement and mismatches; `None` if the role does not exist.
    #[serde(skip)]
    pub denial: Option<Denial>,
}

/// The last denials, the newest last.
#[derive(Default)]
pub(super) struct Denials(VecDeque<DenialView>);

impl Denials {
    pub(super) fn push(&mut self, denial: DenialView) {
        if self.0.len() == MAX_DENIALS {
            self.0.pop_front();
        }
        self.0.push_back(denial);
    }
}

impl Sts {
    /// Returns a recorded session by its access key id, expired or not.
    pub fn inspect(&self, access_key_id: &str) -> Option<SessionView> {
        self.lock_sessions().by_key(access_key_id).map(SessionView::from)
    }

    /// Returns every recorded session in the order of creation.
    pub fn sessions(&self) -> Vec<SessionView> {
        let sessions = self.lock_sessions();
        let mut all: Vec<&Session> = sessions.all().collect();
        all.sort_by(|a, b| (a.created, &a.access_key_id).cmp(&(b.created, &b.access_key_id)));
        all.into_iter().map(SessionView::from).collect()
    }

    /// Returns the last denial.
    pub fn last_denial(&self) -> Option<DenialView> {
        self.lock_denials().0.back().cloned()
    }

    /// Returns a denial by the request id of its response.
    pub fn denial(&self, request_id: &str) -> Option<DenialView> {
        self.lock_denials().0.iter().find(|denial| denial.request_id == request_id).cloned()
    }

    /// Returns the recorded denials, the newest last.
    pub fn denials(&self) -> Vec<DenialView> {
        self.lock_denials().0.iter().cloned().collect()
    }

    /// Records and logs a denial.
    pub(super) fn record_denial(&self, denial: DenialView) {
        tracing::info!(code = denial.code, request_id = denial.request_id, "{}", denial.explanation);
        self.lock_denials().push(denial);
    }
}

impl DenialView {
    pub(super) fn new(request_id: &str, now: SystemTime, denial: &Denial) -> Self {
        Self {
            request_id: request_id.to_owned(),
            time: response::timestamp(now),
            code: denial.code(),
            action: denial.action.as_str(),
            role_arn: denial.role.to_string(),
            caller: denial.caller.clone(),
            explanation: denial.to_string(),
            denial: Some(denial.clone()),
        }
    }
}
