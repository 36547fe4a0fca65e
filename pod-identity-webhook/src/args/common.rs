//! Flags that the webhook and `report` share: those that decide about pods, reach the API server, and log.

use std::path::PathBuf;

use clap::ArgAction;
use clap::builder::{OsStringValueParser, TypedValueParser};
use pod_identity_core::arn::{AccountId, Partition};
use pod_identity_core::identity::ClusterName;
use pod_identity_runtime::logs::LogFormat;

/// The shared flags. `report` takes them after its name.
#[derive(Debug, clap::Args)]
pub(super) struct CommonFlags {
    /// The port of /metrics.
    #[arg(long, value_name = "PORT", default_value_t = 9999)]
    pub(super) metrics_port: u16,

    /// The name of this program's pod, which Kubernetes Events show as their reporting instance.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub(super) pod_name: Option<String>,

    /// The namespace of the webhook, its Secret and the ConfigMap.
    #[arg(long, value_name = "NAME", default_value = "eks")]
    pub(super) namespace: String,

    /// A kubeconfig file that names the API server. Without it, the program uses the service account of its pod.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub(super) kubeconfig: Option<PathBuf>,

    /// The API server's URL. It takes precedence over the kubeconfig file.
    #[arg(long, value_name = "URL")]
    pub(super) kube_api: Option<String>,

    /// The prefix of annotations on service accounts and pods.
    #[arg(long, value_name = "PREFIX", default_value = "eks.amazonaws.com")]
    pub(super) annotation_prefix: String,

    /// The audience of IRSA's tokens where the service account names none.
    #[arg(long, value_name = "AUDIENCE", default_value = "sts.amazonaws.com")]
    pub(super) token_audience: String,

    /// The mount path of IRSA's tokens.
    #[arg(long, value_name = "PATH", default_value = "/var/run/secrets/eks.amazonaws.com/serviceaccount")]
    pub(super) token_mount_path: String,

    /// The lifetime of tokens in seconds, 600 to 86400, where neither pod nor service account sets one. Without it,
    /// 79200 to 86400 at random.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(super) token_expiration: Option<i64>,

    /// The region for containers that set none.
    #[arg(long, value_name = "REGION")]
    pub(super) aws_default_region: Option<String>,

    /// Whether AWS_STS_REGIONAL_ENDPOINTS=regional is set where the service account does not decide it.
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = truth, action = ArgAction::Set)]
    pub(super) sts_regional_endpoint: bool,

    /// Accept roles given by name and path instead of ARN. Needs --aws-account-id.
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = truth, action = ArgAction::Set)]
    pub(super) compose_role_arn: bool,

    /// With --compose-role-arn: the AWS account of such roles.
    #[arg(long, value_name = "ACCOUNT")]
    pub(super) aws_account_id: Option<AccountId>,

    /// With --compose-role-arn: the AWS partition of such roles; without it, that of --aws-default-region.
    #[arg(long, value_name = "PARTITION")]
    pub(super) aws_partition: Option<Partition>,

    /// Whether roles are also looked up in the ConfigMap pod-identity-webhook.
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = truth, action = ArgAction::Set)]
    pub(super) watch_config_map: bool,

    /// The file of service accounts that have Pod Identity.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub(super) watch_container_credentials_config: Option<PathBuf>,

    /// The file of associations that pod-identity-auth serves: a service account with an association has Pod
    /// Identity. Needs --cluster-name.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub(super) associations: Option<PathBuf>,

    /// With --associations: the name of this cluster in that file.
    #[arg(long, value_name = "NAME")]
    pub(super) cluster_name: Option<ClusterName>,

    /// The audience of Pod Identity's tokens.
    #[arg(long, value_name = "AUDIENCE", default_value = "pods.eks.amazonaws.com")]
    pub(super) container_credentials_audience: String,

    /// The mount path of Pod Identity's tokens.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
    )]
    pub(super) container_credentials_token_mount_path: String,

    /// The volume name of Pod Identity's tokens.
    #[arg(long, value_name = "NAME", default_value = "eks-pod-identity-token")]
    pub(super) container_credentials_token_volume_name: String,

    /// The file name of Pod Identity's token in the volume.
    #[arg(long, value_name = "PATH", default_value = "eks-pod-identity-token")]
    pub(super) container_credentials_token_path: String,

    /// The URI that SDKs request Pod Identity's credentials from.
    #[arg(long, value_name = "URI", default_value = "http://169.254.170.23/v1/credentials")]
    pub(super) container_credentials_full_uri: String,

    /// The log level, as klog counts: 0 to 10.
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    pub(super) verbosity: u8,

    /// The log format: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "POD_IDENTITY_LOG_FORMAT")]
    pub(super) log_format: LogFormat,
}

/// Parses a path that may be empty. An empty path means no path, as in Go; clap's own parser rejects it.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Parses a Boolean as Go does: AWS's manifests are written for a Go program.
pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}
