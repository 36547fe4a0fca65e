//! Checks the path from the pod token to credentials once, and reports each step.

use pod_identity_core::error::ErrorCode;
use pod_identity_core::token::POD_IDENTITY_AUDIENCE;
use pod_identity_runtime::clock;
use pod_identity_runtime::outbound::Outbound;
use serde::Deserialize;
use serde_json::json;

use super::fix;
use super::pod::{PodEnvironment, TOKEN_LIFETIME};
use crate::fault::Fault;
use crate::report::{Failure, Report};
use crate::services::{LocalServices, Workload};
use crate::sts::SessionView;

/// Maximum size of an agent's response in bytes.
const MAX_RESPONSE: usize = 64 * 1024;

pub(super) struct PathCheck<'a> {
    pub(super) services: &'a LocalServices,
    pub(super) workload: &'a Workload,
    pub(super) fault: Option<Fault>,
    pub(super) pod: &'a PodEnvironment,
}

/// A response of the agent.
#[derive(Deserialize)]
#[serde(untagged)]
enum AgentResponse {
    Credentials {
        #[serde(rename = "AccessKeyId")]
        access_key_id: String,
        #[serde(rename = "Expiration")]
        expiration: String,
    },
    Error {
        code: String,
        message: String,
    },
}

impl PathCheck<'_> {
    pub(super) async fn run(&self, report: &mut Report) -> Result<(), Failure> {
        let token = self.mint()?;
        let credentials = self.fetch_credentials(&token).await;
        if let Err(failure) = &credentials {
            self.report_steps_before(report, failure.step);
        }
        let (access_key_id, expiration) = credentials?;
        let session = self.services.sts().inspect(&access_key_id).ok_or_else(|| {
            Failure::new(
                "session",
                ErrorCode::Internal,
                "STS has no session with the access key id of the agent's response",
            )
        })?;
        self.report_token(report);
        self.report_association(report);
        report_session(report, &session);
        let url = self.services.credentials_url();
        report.step(
            "credentials",
            json!({"url": url, "accessKeyId": access_key_id, "expiration": expiration}),
            format!("GET {url}: {access_key_id}, until {expiration}"),
        );
        Ok(())
    }

    /// Reports the successful steps before the failed one.
    fn report_steps_before(&self, report: &mut Report, failed: &str) {
        if matches!(failed, "association" | "trust" | "session") {
            self.report_token(report);
        }
        if matches!(failed, "trust" | "session") {
            self.report_association(report);
        }
    }

    fn mint(&self) -> Result<String, Failure> {
        let now = clock::now();
        let mut request = self.workload.token_request(now, TOKEN_LIFETIME);
        if let Some(fault) = self.fault {
            fault.apply_to_token(&mut request, now);
        }
        let failed = |error: String| Failure::new("token", ErrorCode::Internal, error);
        let token = self.services.issuer().mint(&request).map_err(|error| failed(error.to_string()))?;
        self.pod.write_token(&token).map_err(|error| failed(error.to_string()))?;
        Ok(token)
    }

    async fn fetch_credentials(&self, token: &str) -> Result<(String, String), Failure> {
        let url = self.services.credentials_url();
        let unavailable =
            |reason: String| Failure::new("credentials", ErrorCode::UpstreamUnavailable, reason);
        let getter = Outbound::default().getter().map_err(|error| unavailable(error.to_string()))?;
        let response = getter.send(&url, Some(token), MAX_RESPONSE).await;
        let (status, body) = response.map_err(|error| unavailable(error.to_string()))?;
        match serde_json::from_slice(&body) {
            Ok(AgentResponse::Credentials { access_key_id, expiration }) => Ok((access_key_id, expiration)),
            Ok(AgentResponse::Error { code, message }) => Err(self.failure(&code, &message)),
            Err(error) => Err(unavailable(format!(
                "{url}: HTTP {status}, and the body is not the expected JSON: {error}"
            ))),
        }
    }

    fn failure(&self, code: &str, message: &str) -> Failure {
        let code = code.parse().unwrap_or(ErrorCode::Internal);
        // The agent's message ends with the fix and the code, which the report prints separately.
        let ending = format!(". {} [{code}]", code.fix());
        let cause = message.strip_suffix(&ending).unwrap_or(message);
        let mut failure = Failure::new(failed_step(code), code, cause);
        let sts = self.services.sts();
        if code == ErrorCode::RoleTrustRefused
            && let Some(denial) = sts.last_denial()
        {
            failure.cause.push(format!("(STS does not say why; the local one does: {})", denial.explanation));
            failure.fix = fix::for_denial(&denial, sts.fixture()).unwrap_or(failure.fix);
        }
        failure
    }

    fn report_token(&self, report: &mut Report) {
        let (issuer, workload) = (self.services.issuer(), self.workload);
        let key = issuer.signing_key();
        let algorithm = key.algorithm().name();
        report.step(
            "token",
            json!({
                "issuer": issuer.issuer(), "algorithm": algorithm, "keyId": key.kid(),
                "audience": POD_IDENTITY_AUDIENCE, "namespace": workload.namespace,
                "serviceAccount": workload.service_account, "pod": workload.pod.name,
                "podUid": workload.pod.uid,
            }),
            format!(
                "signature ({algorithm}, a key of {}), audience {POD_IDENTITY_AUDIENCE}, times, bound to pod {}/{} \
                 of service account {}",
                issuer.issuer(),
                workload.namespace,
                workload.pod.name,
                workload.service_account,
            ),
        );
    }

    fn report_association(&self, report: &mut Report) {
        let workload = self.workload;
        let found = self.services.associations().associations.iter().find(|entry| {
            entry.cluster_name == *self.services.cluster()
                && entry.namespace == workload.namespace
                && entry.service_account == workload.service_account
        });
        let Some(entry) = found else { return };
        let id = entry.id().map(|id| id.to_string()).unwrap_or_default();
        report.step(
            "association",
            json!({"associationId": id, "cluster": entry.cluster_name, "roleArn": entry.role_arn,
                   "targetRoleArn": entry.target_role_arn}),
            format!(
                "{id} of cluster {} gives {}/{} the role {}{}",
                entry.cluster_name,
                entry.namespace,
                entry.service_account,
                entry.role_arn,
                entry
                    .target_role_arn
                    .as_ref()
                    .map(|target| format!(", and through it {target}"))
                    .unwrap_or_default(),
            ),
        );
    }
}

fn report_session(report: &mut Report, session: &SessionView) {
    let tagged = if session.tags.is_empty() { "" } else { " and sts:TagSession" };
    let actions = format!("sts:AssumeRole{tagged}");
    let callers = &session.chain;
    let mut lines = callers.iter().enumerate().map(|(index, caller)| match index {
        0 => format!("the role's trust policy allows {caller} {actions}"),
        _ => format!("and the target role's allows {caller} {actions}"),
    });
    let first = lines.next().unwrap_or_default();
    report.step_with_details(
        "trust",
        json!({"roleArn": session.role_arn, "chain": session.chain}),
        first,
        &lines.collect::<Vec<_>>(),
    );
    let tags: Vec<String> = session.tags.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    report.step_with_details(
        "session",
        json!({"arn": session.assumed_role_arn, "tags": session.tags,
               "transitiveTagKeys": session.transitive_tag_keys}),
        format!("{}, with{} tags", session.session_name, if tags.is_empty() { "out" } else { " the" }),
        &tags,
    );
}

/// Returns the step that fails with an error code.
fn failed_step(code: ErrorCode) -> &'static str {
    match code {
        _ if code.as_str().starts_with("token_") => "token",
        ErrorCode::AssociationNotFound | ErrorCode::ClusterUnknown => "association",
        ErrorCode::RoleTrustRefused => "trust",
        ErrorCode::SessionRefused | ErrorCode::CallerSessionHasTags => "session",
        _ => "credentials",
    }
}
