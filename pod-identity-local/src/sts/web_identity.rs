//! `AssumeRoleWithWebIdentity`: creates a role session for the bearer of an issuer's token.
//!
//! The request is not signed; the token alone authenticates it (IAM user guide, *OIDC federation*).

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pod_identity_core::token::{BearerToken, Claims, LEEWAY, TokenError, authentic_claims};
use pod_identity_core::trust::{Action, Caller, Context, Decision, Permissions, Request, decide};

use super::assume_role::{CommonParameters, session_elements};
use super::error::StsError;
use super::inspect::DenialView;
use super::validate::Violations;
use super::xml::{self, Element};
use super::{Call, limits, packed};
use crate::fixture::OidcProvider;
use crate::tags::Tags;

/// The claim of session tags. It is unsupported and refused: to ignore it would create a session without its tags.
const TAGS_CLAIM: &str = "https://aws.amazon.com/tags";

/// The facts of a verified token that IAM evaluates.
struct WebIdentity<'a> {
    provider: &'a OidcProvider,
    subject: String,
    /// The values of the condition key `<issuer>:aud`.
    audiences: Vec<String>,
    /// The audience that the provider has registered.
    audience: String,
}

impl<'a> Call<'a> {
    pub(super) fn assume_role_with_web_identity(&self) -> Result<Vec<Element>, StsError> {
        let mut violations = Violations::default();
        let common = self.common_parameters(&mut violations);
        let token = self.form.value("WebIdentityToken");
        let token = violations.required("webIdentityToken", token, limits::WEB_IDENTITY_TOKEN);
        violations.check()?;
        let mut common = common.ok_or_else(|| self.invalid_role())?;
        if self.form.has("ProviderId") {
            return Err(StsError::parameter("The parameter ProviderId is not for OpenID Connect tokens"));
        }

        let identity = self.verify_token(token, &common)?;
        self.check_trust(&identity, &common)?;
        common.policies.check(&common.role)?;
        let tags = Tags::default();
        let packed = packed::percent(common.policies.text.as_deref(), &common.policies.arns, &tags)?;
        let chain = [format!("{} {}", identity.provider.arn, identity.subject)];
        let session = self.issue(common, tags, Vec::new(), None, &chain);
        let mut result = vec![
            xml::text("SubjectFromWebIdentityToken", identity.subject),
            xml::text("Audience", identity.audience),
            xml::text("Provider", identity.provider.arn.as_str()),
        ];
        result.extend(session_elements(&session, packed));
        self.sts.lock_sessions().insert(session, self.now)?;
        Ok(result)
    }

    /// Verifies a token. Its issuer must be registered in the role's AWS account.
    fn verify_token(&self, token: &str, common: &CommonParameters) -> Result<WebIdentity<'a>, StsError> {
        let no_jwt = || {
            StsError::identity_token(
                "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)",
            )
        };
        let bearer = BearerToken::parse(token).map_err(|_| no_jwt())?;
        // The unverified payload is used only to find the issuer's keys.
        let payload = payload(token).ok_or_else(no_jwt)?;
        let issuer = payload.get("iss").and_then(|iss| iss.as_str()).ok_or_else(no_jwt)?;
        let provider = self.sts.fixture.provider(common.role.account(), issuer).ok_or_else(|| {
            StsError::identity_token(format!("No OpenIDConnect provider found in your account for {issuer}"))
        })?;
        let keys = (self.sts.issuer_keys)(issuer).ok_or_else(|| {
            StsError::identity_token(
                "Couldn't retrieve verification key from your identity provider,  please reference \
                 AssumeRoleWithWebIdentity documentation for requirements",
            )
        })?;
        let claims = authentic_claims(&bearer, &keys).map_err(|error| match error {
            TokenError::Malformed { .. } | TokenError::DuplicateKey { .. } => no_jwt(),
            // AWS's messages for these errors are unknown.
            other => StsError::identity_token(other.to_string()),
        })?;
        if claims.iss != provider.url {
            return Err(no_jwt());
        }
        // The payload is verified from here on.
        if payload.get(TAGS_CLAIM).is_some() {
            return Err(StsError::identity_token(format!(
                "The local STS does not support the claim {TAGS_CLAIM}"
            )));
        }
        check_times(&claims, self.now)?;
        let authorized_party = payload.get("azp").and_then(|azp| azp.as_str()).map(str::to_owned);
        let audiences = authorized_party.map_or(claims.aud, |azp| vec![azp]);
        let registered = audiences.iter().find(|audience| provider.client_ids.contains(audience));
        let audience =
            registered.cloned().ok_or_else(|| StsError::identity_token("Incorrect token audience"))?;
        Ok(WebIdentity { provider, subject: claims.sub, audiences, audience })
    }

    /// Evaluates the trust policy. No other policy applies.
    fn check_trust(&self, identity: &WebIdentity<'_>, common: &CommonParameters) -> Result<(), StsError> {
        let action = Action::AssumeRoleWithWebIdentity;
        let Some(role) = self.sts.fixture.role(&common.role) else {
            self.record_unknown_role(action, &common.role, &identity.subject);
            return Err(StsError::web_identity_denied());
        };
        let caller = Caller::WebIdentity { provider: identity.provider.arn.clone() };
        let mut context = Context::of(&caller);
        let prefix = identity.provider.key_prefix();
        context.set(&format!("{prefix}:sub"), identity.subject.as_str());
        context.set_all(&format!("{prefix}:aud"), identity.audiences.iter().cloned());
        context.set("sts:RoleSessionName", common.session_name.as_str());
        let request = Request { caller: &caller, role: &common.role, context: &context };
        if let Decision::Denied(denial) = decide(&role.trust, &Permissions::default(), &[action], &request) {
            self.sts.record_denial(DenialView::new(self.request_id, self.now, &denial));
            return Err(StsError::web_identity_denied());
        }
        if common.duration > role.max_session_duration {
            return Err(StsError::exceeds_role_maximum());
        }
        Ok(())
    }
}

fn payload(token: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn check_times(claims: &Claims, now: SystemTime) -> Result<(), StsError> {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    if claims.exp <= seconds {
        return Err(StsError::expired_identity_token(now, claims.exp));
    }
    let horizon = seconds + LEEWAY.as_secs();
    if claims.iat > horizon || claims.nbf.is_some_and(|nbf| nbf > horizon) {
        return Err(StsError::identity_token("The token is not valid yet"));
    }
    Ok(())
}
