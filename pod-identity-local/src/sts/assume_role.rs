//! `AssumeRole`: creates a role session for a caller with an access key.

use std::time::Duration;

use pod_identity_core::arn::RoleArn;
use pod_identity_core::trust::{Action, Caller, Context, Decision, Permissions, Request, decide};

use super::caller::Identity;
use super::error::Refusal;
use super::inspect::DenialView;
use super::packed;
use super::random::unique_id;
use super::session::Session;
use super::session_policy::SessionPolicies;
use super::validate::Faults;
use super::xml::{self, Element};
use super::{Call, answer, limits};
use crate::tags::Tags;
use crate::world::Role;

/// Maximum duration of a session that a role session creates (IAM user guide, *Role chaining*).
const CHAINING_LIMIT: Duration = Duration::from_secs(3600);

/// The parameters of both operations.
pub(super) struct Asked {
    pub(super) role: RoleArn,
    pub(super) session_name: String,
    pub(super) duration: Duration,
    token_size: usize,
    pub(super) policies: SessionPolicies,
}

/// The parameters of `AssumeRole` only.
struct Passed {
    tags: Vec<(String, String)>,
    transitive: Vec<String>,
    external_id: Option<String>,
    source_identity: Option<String>,
}

/// The tags and the source identity of the new session.
struct Carried {
    tags: Tags,
    transitive: Vec<String>,
    source_identity: Option<String>,
}

impl Call<'_> {
    pub(super) fn assume_role(&self, from: &Identity) -> Result<Vec<Element>, Refusal> {
        let mut faults = Faults::default();
        let asked = self.asked(&mut faults);
        let passed = self.passed(&mut faults);
        faults.check()?;
        let mut asked = asked.ok_or_else(|| self.invalid_role())?;
        self.refuse_unsupported()?;

        let carried = carried(&passed, from)?;
        let role = self.authorize(&asked, &passed, &carried, from)?;
        // The role's limit does not apply to services, and services do not chain (*Update the maximum
        // session duration for a role*).
        let is_service = matches!(from.caller, Caller::Service { .. });
        if asked.duration > role.max_session_duration && !is_service {
            return Err(Refusal::exceeds_role_maximum());
        }
        if from.is_session() && asked.duration > CHAINING_LIMIT {
            return Err(Refusal::exceeds_chaining());
        }
        asked.policies.check(&asked.role)?;
        let packed = packed::percent(asked.policies.text.as_deref(), &asked.policies.arns, &carried.tags)?;
        let source_identity = carried.source_identity.clone();
        let session =
            self.issue(asked, carried.tags, carried.transitive, source_identity.clone(), &from.chain);
        let mut result = session_elements(&session, packed);
        result.extend(source_identity.map(|identity| xml::text("SourceIdentity", identity)));
        self.sts.lock_sessions().insert(session, self.now)?;
        Ok(result)
    }

    /// Reads the parameters of both operations. Returns `None` if `RoleArn` is not the ARN of a role.
    pub(super) fn asked(&self, faults: &mut Faults) -> Option<Asked> {
        let arn = faults.required("roleArn", self.form.value("RoleArn"), limits::ARN);
        let name = self.form.value("RoleSessionName");
        let name = faults.required("roleSessionName", name, limits::SESSION_NAME);
        let seconds = faults.number("durationSeconds", self.form.value("DurationSeconds"), 900, 43_200);
        let size = self.form.value("MinimumSessionTokenSize");
        let size = faults.number("minimumSessionTokenSize", size, 0, 4096);
        let policies = SessionPolicies::read(self.form, faults);
        Some(Asked {
            role: arn.parse().ok()?,
            session_name: name.to_owned(),
            duration: Duration::from_secs(seconds.unwrap_or(3600)),
            token_size: size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0),
            policies,
        })
    }

    /// Makes the error for a `RoleArn` that is not the ARN of a role.
    pub(super) fn invalid_role(&self) -> Refusal {
        Refusal::validation(format!("{} is invalid", self.form.value("RoleArn").unwrap_or_default()))
    }

    fn passed(&self, faults: &mut Faults) -> Passed {
        let mut tags = Vec::new();
        for (index, member) in self.form.list("Tags").into_iter().enumerate() {
            let name = |field| format!("tags.{}.member.{field}", index + 1);
            let key = faults.required(&name("key"), member.get("Key").copied(), limits::TAG_KEY);
            let value = faults.required(&name("value"), member.get("Value").copied(), limits::TAG_VALUE);
            tags.push((key.to_owned(), value.to_owned()));
        }
        faults.count("tags", tags.len(), limits::TAGS);
        let mut transitive = Vec::new();
        for (index, member) in self.form.list("TransitiveTagKeys").into_iter().enumerate() {
            let name = format!("transitiveTagKeys.{}.member", index + 1);
            let key = faults.required(&name, member.get("").copied(), limits::TAG_KEY);
            transitive.push(key.to_owned());
        }
        faults.count("transitiveTagKeys", transitive.len(), limits::TAGS);
        let external_id = self.form.value("ExternalId");
        if let Some(id) = external_id {
            faults.text("externalId", id, limits::EXTERNAL_ID);
        }
        let source_identity = self.form.value("SourceIdentity");
        if let Some(identity) = source_identity {
            faults.text("sourceIdentity", identity, limits::SOURCE_IDENTITY);
        }
        Passed {
            tags,
            transitive,
            external_id: external_id.map(str::to_owned),
            source_identity: source_identity.map(str::to_owned),
        }
    }

    /// Refuses unsupported parameters: to ignore one would create a session that AWS would not create.
    fn refuse_unsupported(&self) -> Result<(), Refusal> {
        match ["SerialNumber", "TokenCode", "ProvidedContexts"].iter().find(|name| self.form.has(name)) {
            Some(name) => {
                Err(Refusal::parameter(format!("The local STS does not support the parameter {name}")))
            }
            None => Ok(()),
        }
    }

    /// Evaluates the trust policy, and the caller's policies if the trust policy delegates to them.
    fn authorize(
        &self,
        asked: &Asked,
        passed: &Passed,
        carried: &Carried,
        from: &Identity,
    ) -> Result<&Role, Refusal> {
        if matches!(from.caller, Caller::Root { .. }) {
            return Err(Refusal::root_caller());
        }
        let world = &self.sts.world;
        let Some(role) = world.role(&asked.role) else {
            self.role_unknown(Action::AssumeRole, &asked.role, &from.caller.to_string());
            return Err(Refusal::denied(&from.caller, Action::AssumeRole, &asked.role));
        };
        let mut context = Context::of(&from.caller);
        context.request_tags(carried.tags.iter());
        context.principal_tags(from.principal_tags(world).iter());
        context.set_all("sts:TransitiveTagKeys", carried.transitive.iter().cloned());
        context.set("sts:RoleSessionName", asked.session_name.as_str());
        for (key, value) in [
            ("sts:ExternalId", &passed.external_id),
            ("sts:SourceIdentity", &carried.source_identity),
            ("aws:SourceAccount", &from.source_account),
            ("aws:SourceArn", &from.source_arn),
        ] {
            if let Some(value) = value {
                context.set(key, value.as_str());
            }
        }
        let mut actions = vec![Action::AssumeRole];
        actions.extend((!carried.tags.is_empty()).then_some(Action::TagSession));
        actions.extend(carried.source_identity.is_some().then_some(Action::SetSourceIdentity));
        let permissions =
            Permissions { identity: from.policies(world), session: from.session_policies.as_deref() };
        let request = Request { caller: &from.caller, role: &asked.role, context: &context };
        match decide(&role.trust, &permissions, &actions, &request) {
            Decision::Allowed => Ok(role),
            Decision::Denied(denial) => {
                self.sts.remember(DenialView::of(self.request_id, self.now, &denial));
                Err(Refusal::denied(&from.caller, denial.action, &asked.role))
            }
        }
    }

    /// Records a denial because the role does not exist. AWS does not state this reason.
    pub(super) fn role_unknown(&self, action: Action, role: &RoleArn, caller: &str) {
        self.sts.remember(DenialView {
            request_id: self.request_id.to_owned(),
            time: answer::timestamp(self.now),
            code: "role_unknown",
            action: action.as_str(),
            role_arn: role.to_string(),
            caller: caller.to_owned(),
            explanation: format!("{caller} may not use {action} on {role}: the role does not exist"),
            denial: None,
        });
    }

    /// Creates the session.
    pub(super) fn issue(
        &self,
        asked: Asked,
        tags: Tags,
        transitive: Vec<String>,
        source_identity: Option<String>,
        chain: &[String],
    ) -> Session {
        let life = self.sts.expire_after.map_or(asked.duration, |limit| limit.min(asked.duration));
        let caller = Caller::Session { role: asked.role.clone(), name: asked.session_name.clone() };
        let mut chain = chain.to_vec();
        chain.push(caller.to_string());
        let (policy, policy_arns) = (asked.policies.text.clone(), asked.policies.arns.clone());
        let identity = Identity {
            account: asked.role.account().to_string(),
            caller,
            user_policies: Vec::new(),
            session_policies: asked.policies.into_policies(),
            tags,
            transitive,
            source_identity,
            source_account: None,
            source_arn: None,
            chain,
        };
        let expiration = whole_seconds(self.now) + life;
        let life = (self.now, expiration);
        let session = Session::new(asked.role, asked.session_name, identity, life, asked.token_size);
        Session { policy, policy_arns, ..session }
    }
}

/// Combines the passed and the inherited tags and source identity.
fn carried(passed: &Passed, from: &Identity) -> Result<Carried, Refusal> {
    let mut tags = Tags::default();
    for (key, value) in &passed.tags {
        if limits::is_reserved(key) {
            return Err(Refusal::parameter(format!("The tag key {key} begins with aws:, which is reserved")));
        }
        if tags.insert(key, value).is_some() {
            return Err(Refusal::parameter(
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
            ));
        }
    }
    let inherits =
        |key: &str| from.transitive.iter().any(|inherited| inherited.to_lowercase() == key.to_lowercase());
    if passed.tags.iter().any(|(key, _)| inherits(key)) {
        return Err(Refusal::parameter(
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive \
             tag key from the calling session.",
        ));
    }
    let mut transitive = from.transitive.clone();
    for key in &passed.transitive {
        let Some(key) = tags.key(key) else {
            return Err(Refusal::parameter(
                "The specified transitive tag key must be included in the requested tags.",
            ));
        };
        if !transitive.iter().any(|earlier| earlier == key) {
            transitive.push(key.to_owned());
        }
    }
    for key in &from.transitive {
        tags.insert(key, from.tags.value(key).unwrap_or_default());
    }
    if tags.len() > limits::TAGS {
        return Err(Refusal::validation(format!(
            "1 validation error detected: Value '[{} members]' at 'tags' failed to satisfy constraint: \
             Member must have length less than or equal to {}",
            tags.len(),
            limits::TAGS
        )));
    }
    let source_identity = match (&passed.source_identity, &from.source_identity) {
        (Some(new), Some(set)) if new != set => {
            return Err(Refusal::parameter("The source identity of the calling session cannot be changed."));
        }
        (new, set) => set.clone().or_else(|| new.clone()),
    };
    if source_identity.as_deref().is_some_and(limits::is_reserved) {
        return Err(Refusal::parameter("A source identity cannot begin with aws:"));
    }
    Ok(Carried { tags, transitive, source_identity })
}

/// Returns the response elements that both operations have.
pub(super) fn session_elements(session: &Session, packed: Option<usize>) -> Vec<Element> {
    let id = format!("{}:{}", unique_id("AROA", session.role.as_str()), session.name);
    let mut result = vec![
        xml::elements(
            "Credentials",
            vec![
                xml::text("AccessKeyId", session.access_key_id.as_str()),
                xml::text("SecretAccessKey", session.secret_access_key.expose()),
                xml::text("SessionToken", session.session_token.expose()),
                xml::text("Expiration", answer::timestamp(session.expiration)),
            ],
        ),
        xml::elements(
            "AssumedRoleUser",
            vec![xml::text("AssumedRoleId", id), xml::text("Arn", session.role.session(&session.name))],
        ),
        xml::text("SessionTokenSize", session.session_token.expose().len().to_string()),
    ];
    result.extend(packed.map(|percent| xml::text("PackedPolicySize", percent.to_string())));
    result
}

/// Rounds down to whole seconds, because a response has the expiration in whole seconds.
fn whole_seconds(time: std::time::SystemTime) -> std::time::SystemTime {
    let since = time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}
