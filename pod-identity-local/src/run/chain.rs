//! Walks the chain once, as a pod's SDK would, and tells what each link checked.

use pod_identity_core::error::ErrorCode;
use pod_identity_core::token::POD_IDENTITY_AUDIENCE;
use pod_identity_runtime::clock;
use pod_identity_runtime::outbound::Outbound;
use serde::Deserialize;
use serde_json::json;

use super::fix;
use super::pod::{PodEnvironment, TOKEN_LIFETIME};
use crate::breakage::Breakage;
use crate::laptop::{Laptop, Workload};
use crate::report::{Failure, Report};
use crate::sts::SessionView;

/// The largest answer of an agent that is read.
const MAX_ANSWER: usize = 64 * 1024;

pub(super) struct Chain<'a> {
    pub(super) laptop: &'a Laptop,
    pub(super) workload: &'a Workload,
    pub(super) breakage: Option<Breakage>,
    pub(super) pod: &'a PodEnvironment,
}

/// What an agent answers: credentials, or why there are none.
#[derive(Deserialize)]
#[serde(untagged)]
enum AgentAnswer {
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

impl Chain<'_> {
    pub(super) async fn walk(&self, report: &mut Report) -> Result<(), Failure> {
        let token = self.mint()?;
        let answer = self.ask_agent(&token).await;
        if let Err(failure) = &answer {
            self.tell_links_before(report, failure.link);
        }
        let (access_key_id, expiration) = answer?;
        let session = self.laptop.sts().inspect(&access_key_id).ok_or_else(|| {
            Failure::new(
                "session",
                ErrorCode::Internal,
                "STS does not know the credentials that the agent gave",
            )
        })?;
        self.tell_token(report);
        self.tell_association(report);
        tell_session(report, &session);
        let url = self.laptop.credentials_url();
        report.link(
            "credentials",
            json!({"url": url, "accessKeyId": access_key_id, "expiration": expiration}),
            format!("GET {url}: {access_key_id}, until {expiration}"),
        );
        Ok(())
    }

    /// The links that held before the one that did not.
    fn tell_links_before(&self, report: &mut Report, broken: &str) {
        if matches!(broken, "association" | "trust" | "session") {
            self.tell_token(report);
        }
        if matches!(broken, "trust" | "session") {
            self.tell_association(report);
        }
    }

    fn mint(&self) -> Result<String, Failure> {
        let now = clock::now();
        let mut request = self.workload.token_request(now, TOKEN_LIFETIME);
        if let Some(breakage) = self.breakage {
            breakage.apply_to_token(&mut request, now);
        }
        let failed = |error: String| Failure::new("token", ErrorCode::Internal, error);
        let token = self.laptop.issuer().mint(&request).map_err(|error| failed(error.to_string()))?;
        self.pod.write_token(&token).map_err(|error| failed(error.to_string()))?;
        Ok(token)
    }

    async fn ask_agent(&self, token: &str) -> Result<(String, String), Failure> {
        let url = self.laptop.credentials_url();
        let unavailable =
            |reason: String| Failure::new("credentials", ErrorCode::UpstreamUnavailable, reason);
        let getter = Outbound::default().getter().map_err(|error| unavailable(error.to_string()))?;
        let answer = getter.send(&url, Some(token), MAX_ANSWER).await;
        let (status, body) = answer.map_err(|error| unavailable(error.to_string()))?;
        match serde_json::from_slice(&body) {
            Ok(AgentAnswer::Credentials { access_key_id, expiration }) => Ok((access_key_id, expiration)),
            Ok(AgentAnswer::Error { code, message }) => Err(self.failure(&code, &message)),
            Err(error) => Err(unavailable(format!("{url}: HTTP {status}, and no JSON to read: {error}"))),
        }
    }

    fn failure(&self, code: &str, message: &str) -> Failure {
        let code = code.parse().unwrap_or(ErrorCode::Internal);
        // The message for pods ends with the fix and the code; here both stand apart.
        let ending = format!(". {} [{code}]", code.fix());
        let cause = message.strip_suffix(&ending).unwrap_or(message);
        let mut failure = Failure::new(broken_link(code), code, cause);
        let sts = self.laptop.sts();
        if code == ErrorCode::RoleTrustRefused
            && let Some(denial) = sts.last_denial()
        {
            failure.cause.push(format!("(STS does not say why; the local one does: {})", denial.explanation));
            failure.fix = fix::of(&denial, sts.world()).unwrap_or(failure.fix);
        }
        failure
    }

    fn tell_token(&self, report: &mut Report) {
        let (issuer, workload) = (self.laptop.issuer(), self.workload);
        let key = issuer.signing_key();
        let algorithm = key.algorithm().name();
        report.link(
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

    fn tell_association(&self, report: &mut Report) {
        let workload = self.workload;
        let found = self.laptop.associations().associations.iter().find(|entry| {
            entry.cluster_name == *self.laptop.cluster()
                && entry.namespace == workload.namespace
                && entry.service_account == workload.service_account
        });
        let Some(entry) = found else { return };
        let id = entry.id().map(|id| id.to_string()).unwrap_or_default();
        report.link(
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

fn tell_session(report: &mut Report, session: &SessionView) {
    let tagged = if session.tags.is_empty() { "" } else { " and sts:TagSession" };
    let used = format!("sts:AssumeRole{tagged}");
    let callers = &session.chain;
    let mut lines = callers.iter().enumerate().map(|(index, caller)| match index {
        0 => format!("the role's trust policy allows {caller} {used}"),
        _ => format!("and the target role's allows {caller} {used}"),
    });
    let first = lines.next().unwrap_or_default();
    report.link_with_parts(
        "trust",
        json!({"roleArn": session.role_arn, "chain": session.chain}),
        first,
        &lines.collect::<Vec<_>>(),
    );
    let tags: Vec<String> = session.tags.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    report.link_with_parts(
        "session",
        json!({"arn": session.assumed_role_arn, "tags": session.tags,
               "transitiveTagKeys": session.transitive_tag_keys}),
        format!("{}, with{} tags", session.session_name, if tags.is_empty() { "out" } else { " the" }),
        &tags,
    );
}

/// The link that a code belongs to.
fn broken_link(code: ErrorCode) -> &'static str {
    match code {
        _ if code.as_str().starts_with("token_") => "token",
        ErrorCode::AssociationNotFound | ErrorCode::ClusterUnknown => "association",
        ErrorCode::RoleTrustRefused => "trust",
        ErrorCode::SessionRefused | ErrorCode::CallerSessionHasTags => "session",
        _ => "credentials",
    }
}
