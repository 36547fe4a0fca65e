//! The command line: that of AWS's webhook, klog's flags among it, and what ours has beside it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches, Parser};
use pod_identity_core::arn::{AccountId, Partition};
use pod_identity_core::identity::ClusterName;
use pod_identity_runtime::listener::LimitFlags;
use pod_identity_runtime::logs::{LogFormat, LogLevel};
use pod_identity_runtime::tls::{CertificateFiles, TlsVersion};

use crate::config::{
    AccountRead, ApiServer, Associations, Certificate, Config, ConfigError, SelfManagedCertificate,
};
use pod_identity_core::inject::{Settings, TokenExpiration, TokenProjection};

/// The admission webhook of EKS Pod Identity and IRSA.
#[derive(Debug, Parser)]
#[command(name = "webhook", version)]
pub struct Args {
    /// The port of /mutate.
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    port: u16,

    /// The port of /metrics.
    #[arg(long, value_name = "PORT", default_value_t = 9999)]
    metrics_port: u16,

    /// Whether the replicas issue and renew the certificate, in a Secret (true), or it comes from files (false).
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = truth, action = ArgAction::Set)]
    in_cluster: bool,

    /// With --in-cluster=false: the certificate's file (PEM).
    #[arg(long, value_name = "FILE", default_value = "/etc/webhook/certs/tls.crt")]
    tls_cert: PathBuf,

    /// With --in-cluster=false: the file of its key (PEM).
    #[arg(long, value_name = "FILE", default_value = "/etc/webhook/certs/tls.key")]
    tls_key: PathBuf,

    /// With --in-cluster: the Secret with the certificate and its key.
    #[arg(long, value_name = "NAME", default_value = "pod-identity-webhook")]
    tls_secret: String,

    /// With --in-cluster: the Service that the certificate is for.
    #[arg(long, value_name = "NAME", default_value = "pod-identity-webhook")]
    service_name: String,

    /// With --in-cluster: the MutatingWebhookConfiguration whose entries call that Service.
    #[arg(long, value_name = "NAME", default_value = "pod-identity-webhook")]
    webhook_configuration: String,

    /// With --in-cluster: lifetime of a certificate, in seconds. It is replaced after two thirds of that.
    #[arg(long, value_name = "SECONDS", default_value_t = 7_776_000)] // 90 days
    certificate_lifetime: u32,

    /// With --in-cluster: time for API servers to learn a new authority, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    certificate_wait: u32,

    /// The oldest TLS to speak, as Go names it; versions before 1.2 are not spoken.
    #[arg(long, value_name = "VERSION", default_value = "VersionTLS12", value_parser = tls_version)]
    tls_min_version: TlsVersion,

    /// The namespace of this program, of its Secret and of the ConfigMap.
    #[arg(long, value_name = "NAME", default_value = "eks")]
    namespace: String,

    /// Where the API server is reached otherwise than from within a pod: a kubeconfig file.
    #[arg(long, value_name = "FILE", value_parser = path())]
    kubeconfig: Option<PathBuf>,

    /// The API server's URL, which counts before the file's.
    #[arg(long, value_name = "URL")]
    kube_api: Option<String>,

    /// What the annotations of accounts and pods begin with.
    #[arg(long, value_name = "PREFIX", default_value = "eks.amazonaws.com")]
    annotation_prefix: String,

    /// For whom IRSA's tokens are where the account does not say.
    #[arg(long, value_name = "AUDIENCE", default_value = "sts.amazonaws.com")]
    token_audience: String,

    /// Where IRSA's tokens are mounted.
    #[arg(long, value_name = "PATH", default_value = "/var/run/secrets/eks.amazonaws.com/serviceaccount")]
    token_mount_path: String,

    /// How long tokens live, in seconds, where neither pod nor account says so; 600 to 86400. Without it, 79200
    /// to 86400 by chance.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    token_expiration: Option<i64>,

    /// The region for containers that name none; none without it.
    #[arg(long, value_name = "REGION")]
    aws_default_region: Option<String>,

    /// Whether AWS_STS_REGIONAL_ENDPOINTS=regional is set where the account does not say.
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = truth, action = ArgAction::Set)]
    sts_regional_endpoint: bool,

    /// Whether a role may be given by its name and path alone. Needs --aws-account-id.
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = truth, action = ArgAction::Set)]
    compose_role_arn: bool,

    /// With --compose-role-arn: the account of such roles.
    #[arg(long, value_name = "ACCOUNT")]
    aws_account_id: Option<AccountId>,

    /// With --compose-role-arn: their partition; without it, that of --aws-default-region.
    #[arg(long, value_name = "PARTITION")]
    aws_partition: Option<Partition>,

    /// Where it is known from what an account says: fresh (a read of the API server for each review), cache
    /// (what a watch has seen, which is behind by a moment, as with AWS's webhook) or never (it does not count).
    #[arg(long, value_name = "HOW", default_value = "fresh")]
    service_account_read: AccountRead,

    /// Whether roles are looked for in the ConfigMap pod-identity-webhook too.
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = truth, action = ArgAction::Set)]
    watch_config_map: bool,

    /// The file of accounts that have Pod Identity.
    #[arg(long, value_name = "FILE", value_parser = path())]
    watch_container_credentials_config: Option<PathBuf>,

    /// The file of associations that pod-identity-auth serves: who has one has Pod Identity. Needs
    /// --cluster-name.
    #[arg(long, value_name = "FILE", value_parser = path())]
    associations: Option<PathBuf>,

    /// With --associations: the name that this cluster has there.
    #[arg(long, value_name = "NAME")]
    cluster_name: Option<ClusterName>,

    /// For whom Pod Identity's tokens are.
    #[arg(long, value_name = "AUDIENCE", default_value = "pods.eks.amazonaws.com")]
    container_credentials_audience: String,

    /// Where Pod Identity's tokens are mounted.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
    )]
    container_credentials_token_mount_path: String,

    /// The name of their volume.
    #[arg(long, value_name = "NAME", default_value = "eks-pod-identity-token")]
    container_credentials_token_volume_name: String,

    /// The token's file in it.
    #[arg(long, value_name = "PATH", default_value = "eks-pod-identity-token")]
    container_credentials_token_path: String,

    /// Where SDKs ask for Pod Identity's credentials.
    #[arg(long, value_name = "URI", default_value = "http://169.254.170.23/v1/credentials")]
    container_credentials_full_uri: String,

    /// How often to look for running pods that lack what their service accounts have, in seconds; 0 for never. One
    /// replica looks, chosen by a Lease, and writes a Kubernetes Event on each such pod.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    reconcile_interval: u32,

    /// How many seconds to go on serving after a signal to end, while API servers hear that this replica goes.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    shutdown_delay: u16,

    /// A PEM file with the CA certificates that sign the API servers' client certificates. With it, only connections
    /// with such a certificate may send reviews. It is read again when it changes.
    #[arg(long, value_name = "PATH", value_parser = path())]
    client_ca_file: Option<PathBuf>,

    #[command(flatten)]
    limits: LimitFlags,

    /// How much to log, as klog counts: 0 to 10.
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,

    /// text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "POD_IDENTITY_LOG_FORMAT")]
    pub log_format: LogFormat,

    #[arg(skip)]
    without_effect: Vec<&'static str>,
}

/// Flags of AWS's command lines and of older versions that do nothing here, and whether they are Boolean. Those of klog among
/// them are about files of logs; here logs go to standard error.
const WITHOUT_EFFECT: [(&str, bool); 16] = [
    ("resync-period", false), // what is known is never older than the watch
    ("service-account-lookup-grace-period", false), // accounts are read, not waited for
    ("pod-name", false),      // replicas have no leader
    ("enable-debugging-handlers", true),
    ("add_dir_header", true),
    ("alsologtostderr", true),
    ("log_backtrace_at", false),
    ("log_dir", false),
    ("log_file", false),
    ("log_file_max_size", false),
    ("logtostderr", true),
    ("one_output", true),
    ("skip_headers", true),
    ("skip_log_headers", true),
    ("stderrthreshold", false),
    ("vmodule", false),
];

/// The program's own command line: AWS's image starts `/go-runner /webhook ...`, and in ours that is a link to
/// this program.
pub fn command_line(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut arguments = arguments.peekable();
    let is_runner =
        |program: &mut OsString| Path::new(program).file_name().is_some_and(|name| name == "go-runner");
    if arguments.peek_mut().is_some_and(is_runner) {
        arguments.next();
    }
    arguments
}

/// The command line's grammar, the flags without effect among it.
pub fn command() -> Command {
    let truth_value = |flag: Arg| {
        flag.num_args(0..=1).require_equals(true).default_missing_value("true").value_parser(truth)
    };
    let flags = WITHOUT_EFFECT.into_iter().map(|(name, is_truth)| {
        let flag = Arg::new(name).long(name).hide(true).action(ArgAction::Set);
        if is_truth { truth_value(flag) } else { flag }
    });
    Args::command().args_override_self(true).args(flags)
}

/// Reads a command line, the program's name first. A flag that stands twice counts the last time, as for Go.
///
/// # Errors
/// clap's, with the flag.
pub fn parse<T: Into<OsString> + Clone>(
    command_line: impl IntoIterator<Item = T>,
) -> Result<Args, clap::Error> {
    let matches = command().try_get_matches_from(command_line)?;
    let mut args = Args::from_arg_matches(&matches)?;
    // What AWS's manifests say, and what happens anyway, is nothing to warn of.
    let wanted = |name: &str, is_truth: bool| match matches.try_get_one::<bool>(name) {
        Ok(Some(on)) if is_truth => *on != (name == "logtostderr"),
        _ => matches.contains_id(name),
    };
    args.without_effect = WITHOUT_EFFECT
        .into_iter()
        .filter(|(name, is_truth)| wanted(name, *is_truth))
        .map(|(name, _)| name)
        .collect();
    Ok(args)
}

/// A path that may be empty, which clap's own may not: for Go that is as much as not given.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Parses a Boolean as Go does: AWS's manifests are written for a Go program.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => Ok(TlsVersion::V1_2),
        "VersionTLS13" => Ok(TlsVersion::V1_3),
        other => Err(format!("{other:?} is not VersionTLS12 or VersionTLS13")),
    }
}

impl Args {
    /// How much to log.
    pub fn log_level(&self) -> LogLevel {
        LogLevel::of_klog(self.verbosity)
    }

    /// What the flags mean together.
    ///
    /// # Errors
    /// [`ConfigError`] where they contradict each other, or pods could not start with them.
    pub fn config(self) -> Result<Config, ConfigError> {
        let region = self.aws_default_region.filter(|region| !region.is_empty()); // AWS's default
        let bare_roles = match (self.compose_role_arn, self.aws_account_id) {
            (true, Some(account)) => {
                let of_region = || Partition::of_region(region.as_deref().unwrap_or_default());
                Some((self.aws_partition.unwrap_or_else(of_region), account))
            }
            (true, None) => return Err(ConfigError::NoAccount),
            (false, None) if self.aws_partition.is_none() => None,
            (false, _) => return Err(ConfigError::NoComposition),
        };
        let defaults = Settings::default();
        let settings = Settings {
            annotation_prefix: self.annotation_prefix,
            pod_identity: TokenProjection {
                audience: self.container_credentials_audience,
                volume: self.container_credentials_token_volume_name,
                mount_path: self.container_credentials_token_mount_path,
                file: self.container_credentials_token_path,
            },
            full_uri: self.container_credentials_full_uri,
            web_identity: TokenProjection {
                audience: self.token_audience,
                mount_path: self.token_mount_path,
                ..defaults.web_identity
            },
            // AWS's default on a command line is as much as nothing said: it is spread there, too.
            token_expiration: self
                .token_expiration
                .map(TokenExpiration::nearest)
                .filter(|expiration| expiration.seconds() != TokenExpiration::MAX),
            region,
            regional_sts: self.sts_regional_endpoint,
            bare_roles,
        };
        let given = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let associations = match (given(self.associations), self.cluster_name) {
            (Some(file), Some(cluster)) => Some(Associations { file, cluster }),
            (Some(_), None) => return Err(ConfigError::NoCluster),
            (None, Some(_)) => return Err(ConfigError::NoAssociations),
            (None, None) => None,
        };
        let certificate = if self.in_cluster {
            Certificate::SelfManaged(SelfManagedCertificate {
                secret: self.tls_secret,
                service: self.service_name,
                configuration: self.webhook_configuration,
                lifetime: Duration::from_secs(self.certificate_lifetime.into()),
                wait: Duration::from_secs(self.certificate_wait.into()),
            })
        } else {
            Certificate::Files(CertificateFiles { certificate: self.tls_cert, key: self.tls_key })
        };
        let config = Config {
            settings,
            port: self.port,
            metrics_port: self.metrics_port,
            certificate,
            tls: self.tls_min_version,
            client_ca: given(self.client_ca_file),
            api_server: ApiServer { kubeconfig: given(self.kubeconfig), url: said(self.kube_api) },
            namespace: self.namespace,
            account_read: self.service_account_read,
            watch_config_map: self.watch_config_map,
            identities: given(self.watch_container_credentials_config),
            associations,
            reconcile_interval: (self.reconcile_interval > 0)
                .then(|| Duration::from_secs(self.reconcile_interval.into())),
            shutdown_delay: Duration::from_secs(self.shutdown_delay.into()),
            limits: self.limits,
            without_effect: self.without_effect,
        };
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
