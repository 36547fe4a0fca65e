//! What no API of AWS shows: what a session carries, and why a request was denied.

use std::collections::VecDeque;
use std::time::SystemTime;

use pod_identity_core::trust::Denial;
use serde::Serialize;

use super::session::Session;
use super::{Sts, answer};
use crate::tags::Tags;

/// How many denials are remembered.
const DENIALS: usize = 256;

/// A session as a test or a person may see it: without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// The access key id, by which it is found.
    pub access_key_id: String,
    /// The ARN that the session acts under.
    pub assumed_role_arn: String,
    /// The role.
    pub role_arn: String,
    /// The session's name.
    pub session_name: String,
    /// Its tags, passed and inherited; not the role's.
    pub tags: Tags,
    /// Which of them go along to the next role.
    pub transitive_tag_keys: Vec<String>,
    /// Its source identity.
    pub source_identity: Option<String>,
    /// The inline session policy, as it was passed.
    pub policy: Option<String>,
    /// The managed session policies.
    pub policy_arns: Vec<String>,
    /// When it ends, in RFC 3339.
    pub expiration: String,
    /// Who assumed what: the first caller first, the one that made this session last.
    pub chain: Vec<String>,
}

impl From<&Session> for SessionView {
    fn from(session: &Session) -> Self {
        let identity = &session.identity;
        let before = identity.chain.len().saturating_sub(1);
        Self {
            access_key_id: session.access_key_id.clone(),
            assumed_role_arn: session.role.session(&session.name),
            role_arn: session.role.to_string(),
            session_name: session.name.clone(),
            tags: identity.tags.clone(),
            transitive_tag_keys: identity.transitive.clone(),
            source_identity: identity.source_identity.clone(),
            policy: session.policy.clone(),
            policy_arns: session.policy_arns.clone(),
            expiration: answer::timestamp(session.expiration),
            chain: identity.chain[..before].to_vec(),
        }
    }
}

/// Why a role was not given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DenialView {
    /// The request's id, which its answer carries too.
    pub request_id: String,
    /// When it was, in RFC 3339.
    pub time: String,
    /// A stable word: those of [`Denial::code`], or `role_unknown`.
    pub code: &'static str,
    /// The action that was denied: `sts:TagSession`.
    pub action: &'static str,
    /// The role that was asked for.
    pub role_arn: String,
    /// Who asked.
    pub caller: String,
    /// The reason, in a sentence.
    pub explanation: String,
    /// The whole reason, statement and misses; `None` where there is no such role.
    #[serde(skip)]
    pub denial: Option<Denial>,
}

/// The last denials, the newest last.
#[derive(Default)]
pub(super) struct Denials(VecDeque<DenialView>);

impl Denials {
    pub(super) fn push(&mut self, denial: DenialView) {
        if self.0.len() == DENIALS {
            self.0.pop_front();
        }
        self.0.push_back(denial);
    }
}

impl Sts {
    /// A session by its access key id, expired or not, as long as it is remembered.
    pub fn inspect(&self, access_key_id: &str) -> Option<SessionView> {
        self.lock_sessions().by_key(access_key_id).map(SessionView::from)
    }

    /// Every session that is remembered, in the order they were made.
    pub fn sessions(&self) -> Vec<SessionView> {
        let sessions = self.lock_sessions();
        let mut all: Vec<&Session> = sessions.all().collect();
        all.sort_by(|a, b| (a.created, &a.access_key_id).cmp(&(b.created, &b.access_key_id)));
        all.into_iter().map(SessionView::from).collect()
    }

    /// Why the last request that was denied was denied.
    pub fn last_denial(&self) -> Option<DenialView> {
        self.lock_denials().0.back().cloned()
    }

    /// Why a request was denied, by the id in its answer.
    pub fn denial(&self, request_id: &str) -> Option<DenialView> {
        self.lock_denials().0.iter().find(|denial| denial.request_id == request_id).cloned()
    }

    /// The denials that are remembered, the newest last.
    pub fn denials(&self) -> Vec<DenialView> {
        self.lock_denials().0.iter().cloned().collect()
    }

    /// Remembers a denial and tells the log.
    pub(super) fn remember(&self, denial: DenialView) {
        tracing::info!(code = denial.code, request_id = denial.request_id, "{}", denial.explanation);
        self.lock_denials().push(denial);
    }
}

impl DenialView {
    pub(super) fn of(request_id: &str, now: SystemTime, denial: &Denial) -> Self {
        Self {
            request_id: request_id.to_owned(),
            time: answer::timestamp(now),
            code: denial.code(),
            action: denial.action.as_str(),
            role_arn: denial.role.to_string(),
            caller: denial.caller.clone(),
            explanation: denial.to_string(),
            denial: Some(denial.clone()),
        }
    }
}
