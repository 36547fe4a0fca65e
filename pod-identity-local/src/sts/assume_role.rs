//! `AssumeRole`: creates a role session for a caller with an access key.

use std::time::Duration;

use pod_identity_core::arn::RoleArn;
use pod_identity_core::trust::{Action, Caller, Context, Decision, Permissions, Request, decide};

use super::caller::Principal;
use super::error::StsError;
use super::inspect::DenialView;
use super::packed;
use super::random::unique_id;
use super::session::Session;
use super::session_policy::SessionPolicies;
use super::validate::Violations;
use super::xml::{self, Element};
use super::{Call, limits, response};
use crate::fixture::Role;
use crate::tags::Tags;

/// Maximum duration of a session that a role session creates (IAM user guide, *Role chaining*).
const CHAINING_LIMIT: Duration = Duration::from_secs(3600);

/// The parameters of both operations.
pub(super) struct CommonParameters {
    pub(super) role: RoleArn,
    pub(super) session_name: String,
    pub(super) duration: Duration,
    token_size: usize,
    pub(super) policies: SessionPolicies,
}

/// The parameters of `AssumeRole` only.
struct AssumeRoleParameters {
    tags: Vec<(String, String)>,
    transitive: Vec<String>,
    external_id: Option<String>,
    source_identity: Option<String>,
}

/// The tags and the source identity of the new session.
struct SessionAttributes {
    tags: Tags,
    transitive: Vec<String>,
    source_identity: Option<String>,
}

impl Call<'_> {
    pub(super) fn assume_role(&self, principal: &Principal) -> Result<Vec<Element>, StsError> {
        let mut violations = Violations::default();
        let common = self.common_parameters(&mut violations);
        let parameters = self.assume_role_parameters(&mut violations);
        violations.check()?;
        let mut common = common.ok_or_else(|| self.invalid_role())?;
        self.refuse_unsupported()?;

        let attributes = session_attributes(&parameters, principal)?;
        let role = self.authorize(&common, &parameters, &attributes, principal)?;
        // The role's limit does not apply to services, and services do not chain (*Update the maximum
        // session duration for a role*).
        let is_service = matches!(principal.caller, Caller::Service { .. });
        if common.duration > role.max_session_duration && !is_service {
            return Err(StsError::exceeds_role_maximum());
        }
        if principal.is_session() && common.duration > CHAINING_LIMIT {
            return Err(StsError::exceeds_chaining());
        }
        common.policies.check(&common.role)?;
        let packed =
            packed::percent(common.policies.text.as_deref(), &common.policies.arns, &attributes.tags)?;
        let source_identity = attributes.source_identity.clone();
        let session = self.issue(
            common,
            attributes.tags,
            attributes.transitive,
            source_identity.clone(),
            &principal.chain,
        );
        let mut result = session_elements(&session, packed);
        result.extend(source_identity.map(|identity| xml::text("SourceIdentity", identity)));
        self.sts.lock_sessions().insert(session, self.now)?;
        Ok(result)
    }

    /// Reads the parameters of both operations. Returns `None` if `RoleArn` is not the ARN of a role.
    pub(super) fn common_parameters(&self, violations: &mut Violations) -> Option<CommonParameters> {
        let arn = violations.required("roleArn", self.form.value("RoleArn"), limits::ARN);
        let name = self.form.value("RoleSessionName");
        let name = violations.required("roleSessionName", name, limits::SESSION_NAME);
        let seconds = violations.number("durationSeconds", self.form.value("DurationSeconds"), 900, 43_200);
        let size = self.form.value("MinimumSessionTokenSize");
        let size = violations.number("minimumSessionTokenSize", size, 0, 4096);
        let policies = SessionPolicies::read(self.form, violations);
        Some(CommonParameters {
            role: arn.parse().ok()?,
            session_name: name.to_owned(),
            duration: Duration::from_secs(seconds.unwrap_or(3600)),
            token_size: size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0),
            policies,
        })
    }

    /// Makes the error for a `RoleArn` that is not the ARN of a role.
    pub(super) fn invalid_role(&self) -> StsError {
        StsError::validation(format!("{} is invalid", self.form.value("RoleArn").unwrap_or_default()))
    }

    fn assume_role_parameters(&self, violations: &mut Violations) -> AssumeRoleParameters {
        let mut tags = Vec::new();
        for (index, member) in self.form.list("Tags").into_iter().enumerate() {
            let name = |field| format!("tags.{}.member.{field}", index + 1);
            let key = violations.required(&name("key"), member.get("Key").copied(), limits::TAG_KEY);
            let value = violations.required(&name("value"), member.get("Value").copied(), limits::TAG_VALUE);
            tags.push((key.to_owned(), value.to_owned()));
        }
        violations.count("tags", tags.len(), limits::MAX_TAGS);
        let mut transitive = Vec::new();
        for (index, member) in self.form.list("TransitiveTagKeys").into_iter().enumerate() {
            let name = format!("transitiveTagKeys.{}.member", index + 1);
            let key = violations.required(&name, member.get("").copied(), limits::TAG_KEY);
            transitive.push(key.to_owned());
        }
        violations.count("transitiveTagKeys", transitive.len(), limits::MAX_TAGS);
        let external_id = self.form.value("ExternalId");
        if let Some(id) = external_id {
            violations.text("externalId", id, limits::EXTERNAL_ID);
        }
        let source_identity = self.form.value("SourceIdentity");
        if let Some(identity) = source_identity {
            violations.text("sourceIdentity", identity, limits::SOURCE_IDENTITY);
        }
        AssumeRoleParameters {
            tags,
            transitive,
            external_id: external_id.map(str::to_owned),
            source_identity: source_identity.map(str::to_owned),
        }
    }

    /// Refuses unsupported parameters: to ignore one would create a session that AWS would not create.
    fn refuse_unsupported(&self) -> Result<(), StsError> {
        match ["SerialNumber", "TokenCode", "ProvidedContexts"].iter().find(|name| self.form.has(name)) {
            Some(name) => {
                Err(StsError::parameter(format!("The local STS does not support the parameter {name}")))
            }
            None => Ok(()),
        }
    }

    /// Evaluates the trust policy, and the caller's policies if the trust policy delegates to them.
    fn authorize(
        &self,
        common: &CommonParameters,
        parameters: &AssumeRoleParameters,
        attributes: &SessionAttributes,
        principal: &Principal,
    ) -> Result<&Role, StsError> {
        if matches!(principal.caller, Caller::Root { .. }) {
            return Err(StsError::root_caller());
        }
        let fixture = &self.sts.fixture;
        let Some(role) = fixture.role(&common.role) else {
            self.record_unknown_role(Action::AssumeRole, &common.role, &principal.caller.to_string());
            return Err(StsError::denied(&principal.caller, Action::AssumeRole, &common.role));
        };
        let mut context = Context::of(&principal.caller);
        context.request_tags(attributes.tags.iter());
        context.principal_tags(principal.principal_tags(fixture).iter());
        context.set_all("sts:TransitiveTagKeys", attributes.transitive.iter().cloned());
        context.set("sts:RoleSessionName", common.session_name.as_str());
        for (key, value) in [
            ("sts:ExternalId", &parameters.external_id),
            ("sts:SourceIdentity", &attributes.source_identity),
            ("aws:SourceAccount", &principal.source_account),
            ("aws:SourceArn", &principal.source_arn),
        ] {
            if let Some(value) = value {
                context.set(key, value.as_str());
            }
        }
        let mut actions = vec![Action::AssumeRole];
        actions.extend((!attributes.tags.is_empty()).then_some(Action::TagSession));
        actions.extend(attributes.source_identity.is_some().then_some(Action::SetSourceIdentity));
        let permissions = Permissions {
            identity: principal.policies(fixture),
            session: principal.session_policies.as_deref(),
        };
        let request = Request { caller: &principal.caller, role: &common.role, context: &context };
        match decide(&role.trust, &permissions, &actions, &request) {
            Decision::Allowed => Ok(role),
            Decision::Denied(denial) => {
                self.sts.record_denial(DenialView::new(self.request_id, self.now, &denial));
                Err(StsError::denied(&principal.caller, denial.action, &common.role))
            }
        }
    }

    /// Records a denial because the role does not exist. AWS does not state this reason.
    pub(super) fn record_unknown_role(&self, action: Action, role: &RoleArn, caller: &str) {
        self.sts.record_denial(DenialView {
            request_id: self.request_id.to_owned(),
            time: response::timestamp(self.now),
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
        common: CommonParameters,
        tags: Tags,
        transitive: Vec<String>,
        source_identity: Option<String>,
        chain: &[String],
    ) -> Session {
        let life = self.sts.expire_after.map_or(common.duration, |limit| limit.min(common.duration));
        let caller = Caller::Session { role: common.role.clone(), name: common.session_name.clone() };
        let mut chain = chain.to_vec();
        chain.push(caller.to_string());
        let (policy, policy_arns) = (common.policies.text.clone(), common.policies.arns.clone());
        let principal = Principal {
            account: common.role.account().to_string(),
            caller,
            user_policies: Vec::new(),
            session_policies: common.policies.into_policies(),
            tags,
            transitive,
            source_identity,
            source_account: None,
            source_arn: None,
            chain,
        };
        let expiration = whole_seconds(self.now) + life;
        let life = (self.now, expiration);
        let session = Session::new(common.role, common.session_name, principal, life, common.token_size);
        Session { policy, policy_arns, ..session }
    }
}

/// Combines the passed and the inherited tags and source identity.
fn session_attributes(
    parameters: &AssumeRoleParameters,
    principal: &Principal,
) -> Result<SessionAttributes, StsError> {
    let mut tags = Tags::default();
    for (key, value) in &parameters.tags {
        if limits::is_reserved(key) {
            return Err(StsError::parameter(format!(
                "The tag key {key} begins with aws:, which is reserved"
            )));
        }
        if tags.insert(key, value).is_some() {
            return Err(StsError::parameter(
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
            ));
        }
    }
    let inherits = |key: &str| {
        principal.transitive.iter().any(|inherited| inherited.to_lowercase() == key.to_lowercase())
    };
    if parameters.tags.iter().any(|(key, _)| inherits(key)) {
        return Err(StsError::parameter(
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive \
             tag key from the calling session.",
        ));
    }
    let mut transitive = principal.transitive.clone();
    for key in &parameters.transitive {
        let Some(key) = tags.key(key) else {
            return Err(StsError::parameter(
                "The specified transitive tag key must be included in the requested tags.",
            ));
        };
        if !transitive.iter().any(|earlier| earlier == key) {
            transitive.push(key.to_owned());
        }
    }
    for key in &principal.transitive {
        tags.insert(key, principal.tags.value(key).unwrap_or_default());
    }
    if tags.len() > limits::MAX_TAGS {
        return Err(StsError::validation(format!(
            "1 validation error detected: Value '[{} members]' at 'tags' failed to satisfy constraint: \
             Member must have length less than or equal to {}",
            tags.len(),
            limits::MAX_TAGS
        )));
    }
    let source_identity = match (&parameters.source_identity, &principal.source_identity) {
        (Some(new), Some(set)) if new != set => {
            return Err(StsError::parameter("The source identity of the calling session cannot be changed."));
        }
        (new, set) => set.clone().or_else(|| new.clone()),
    };
    if source_identity.as_deref().is_some_and(limits::is_reserved) {
        return Err(StsError::parameter("A source identity cannot begin with aws:"));
    }
    Ok(SessionAttributes { tags, transitive, source_identity })
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
                xml::text("Expiration", response::timestamp(session.expiration)),
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
