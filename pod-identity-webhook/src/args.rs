//! The command line: the flags of AWS's webhook and of klog, and this project's own.

mod common; // flags that the webhook and `report` share

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::UnknownArgumentValueParser;
use clap::{Arg, ArgAction, Args as _, Command, CommandFactory, FromArgMatches, Parser, value_parser};
use pod_identity_core::arn::Partition;
use pod_identity_runtime::listener::LimitFlags;
use pod_identity_runtime::logs::{LogFormat, LogLevel};
use pod_identity_runtime::tls::{CertificateFiles, TlsVersion};

use self::common::{CommonFlags, path, truth};
use crate::config::{
    ApiServer, Associations, Certificate, Config, ConfigError, SelfManagedCertificate, ServiceAccountRead,
};
use pod_identity_core::inject::{Settings, TokenExpiration, TokenProjection};

/// The admission webhook of EKS Pod Identity and IRSA.
#[derive(Debug, Parser)]
#[command(name = "webhook", version, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Args {
    #[command(flatten)]
    common: CommonFlags,

    /// Port of /mutate.
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    port: u16,

    /// Use a self-managed certificate, kept in a Secret; false: use the files of --tls-cert and --tls-key.
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = truth, action = ArgAction::Set)]
    in_cluster: bool,

    /// Certificate file (PEM), with --in-cluster=false.
    #[arg(long, value_name = "FILE", default_value = "/etc/webhook/certs/tls.crt")]
    tls_cert: PathBuf,

    /// Private key file (PEM), with --in-cluster=false.
    #[arg(long, value_name = "FILE", default_value = "/etc/webhook/certs/tls.key")]
    tls_key: PathBuf,

    /// Secret of the self-managed certificate.
    #[arg(long, value_name = "NAME", default_value = "pod-identity-webhook")]
    tls_secret: String,

    /// Service whose name the self-managed certificate has.
    #[arg(long, value_name = "NAME", default_value = "pod-identity-webhook")]
    service_name: String,

    /// MutatingWebhookConfiguration whose entries for that Service get the caBundle.
    #[arg(long, value_name = "NAME", default_value = "pod-identity-webhook")]
    webhook_configuration: String,

    /// Lifetime of a self-managed certificate, in seconds. It is replaced after two thirds of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 7_776_000)] // 90 days
    certificate_lifetime: u32,

    /// Time for API servers to read a new caBundle before the new certificate is served, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    certificate_wait: u32,

    /// Minimum TLS version: VersionTLS12 or VersionTLS13. Lower versions of Go's names mean VersionTLS12.
    #[arg(long, value_name = "VERSION", default_value = "VersionTLS12", value_parser = tls_version)]
    tls_min_version: TlsVersion,

    /// Source of service account annotations: fresh (read the API server for each review), cache (a watch, which lags by
    /// moments, as in AWS's webhook) or never (ignore annotations).
    #[arg(long, value_name = "HOW", default_value = "fresh")]
    service_account_read: ServiceAccountRead,

    /// Time to keep serving after a signal to stop, in seconds, while API servers learn that this replica leaves.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    shutdown_delay: u16,

    /// PEM file of CA certificates for the API servers' client certificates. With it, only connections with such a
    /// certificate may send reviews. It is reloaded when it changes.
    #[arg(long, value_name = "PATH", value_parser = path())]
    client_ca_file: Option<PathBuf>,

    #[command(flatten)]
    limits: LimitFlags,

    #[command(subcommand)]
    subcommand: Option<Subcommand>,

    #[arg(skip)]
    without_effect: Vec<&'static str>,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Reports running pods without the credentials of their service accounts: in Kubernetes Events, in a list and in metrics
    /// on --metrics-port. It serves no reviews. Run one replica, with the flags of the webhook.
    Report {
        /// Seconds between the end of one reading of all running pods and the start of the next, at least 30.
        #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = value_parser!(u32).range(30..))]
        interval: u32,
    },
}

/// Flags of AWS's webhook and of klog that have no effect, and whether they are Boolean. klog's are about log files; this
/// program logs to standard error.
const WITHOUT_EFFECT: [(&str, bool); 15] = [
    ("resync-period", false),                       // the watch needs none
    ("service-account-lookup-grace-period", false), // each review reads its service account
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

/// A flag of earlier versions. Its error names the subcommand that replaces it.
const REMOVED: &str = "reconcile-interval";

/// Returns the parser of the command line, including the flags without effect.
pub fn command() -> Command {
    let truth_value = |flag: Arg| {
        flag.num_args(0..=1).require_equals(true).default_missing_value("true").value_parser(truth)
    };
    let flags = WITHOUT_EFFECT.into_iter().map(|(name, is_truth)| {
        let flag = Arg::new(name).long(name).hide(true).action(ArgAction::Set);
        if is_truth { truth_value(flag) } else { flag }
    });
    let instead = "run the subcommand report: its flag --interval replaces this one";
    let removed = Arg::new(REMOVED).long(REMOVED).hide(true).num_args(0..=1).default_missing_value("");
    let removed = removed.value_parser(UnknownArgumentValueParser::suggest(instead));
    // `report` takes the shared flags too.
    let common = CommonFlags::augment_args(Command::new("common"));
    let common: BTreeSet<_> = common.get_arguments().map(Arg::get_id).collect();
    Args::command()
        .args_override_self(true)
        .args(flags)
        .arg(removed)
        .mut_args(|flag| if common.contains(flag.get_id()) { flag.global(true) } else { flag })
}

/// Parses a command line with the program's name first. The last one of repeated flags applies, as in Go.
///
/// # Errors
/// clap's, with the flag.
pub fn parse<T: Into<OsString> + Clone>(
    command_line: impl IntoIterator<Item = T>,
) -> Result<Args, clap::Error> {
    let matches = command().try_get_matches_from(command_line)?;
    let mut args = Args::from_arg_matches(&matches)?;
    // AWS's manifests set flags to what this program does anyway: no warning.
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

fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => Ok(TlsVersion::V1_2),
        "VersionTLS13" => Ok(TlsVersion::V1_3),
        other => Err(format!("found {other:?}, want VersionTLS12 or VersionTLS13")),
    }
}

impl Args {
    /// Returns the log level.
    pub fn log_level(&self) -> LogLevel {
        LogLevel::of_klog(self.common.verbosity)
    }

    /// The form of log lines.
    pub fn log_format(&self) -> LogFormat {
        self.common.log_format
    }

    /// Returns the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] if flags contradict each other or a value is invalid.
    pub fn config(self) -> Result<Config, ConfigError> {
        let common = self.common;
        let region = common.aws_default_region.filter(|region| !region.is_empty()); // AWS's default
        let bare_roles = match (common.compose_role_arn, common.aws_account_id) {
            (true, Some(account)) => {
                let of_region = || Partition::of_region(region.as_deref().unwrap_or_default());
                Some((common.aws_partition.unwrap_or_else(of_region), account))
            }
            (true, None) => return Err(ConfigError::NoAccount),
            (false, None) if common.aws_partition.is_none() => None,
            (false, _) => return Err(ConfigError::NoComposition),
        };
        let defaults = Settings::default();
        let settings = Settings {
            annotation_prefix: common.annotation_prefix,
            pod_identity: TokenProjection {
                audience: common.container_credentials_audience,
                volume: common.container_credentials_token_volume_name,
                mount_path: common.container_credentials_token_mount_path,
                file: common.container_credentials_token_path,
            },
            full_uri: common.container_credentials_full_uri,
            web_identity: TokenProjection {
                audience: common.token_audience,
                mount_path: common.token_mount_path,
                ..defaults.web_identity
            },
            // A flag with AWS's default value means the random lifetime there too.
            token_expiration: common
                .token_expiration
                .map(TokenExpiration::nearest)
                .filter(|expiration| expiration.seconds() != TokenExpiration::MAX),
            region,
            regional_sts: common.sts_regional_endpoint,
            bare_roles,
        };
        let given = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let associations = match (given(common.associations), common.cluster_name) {
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
            metrics_port: common.metrics_port,
            certificate,
            tls: self.tls_min_version,
            client_ca: given(self.client_ca_file),
            api_server: ApiServer { kubeconfig: given(common.kubeconfig), url: said(common.kube_api) },
            namespace: common.namespace,
            service_account_read: self.service_account_read,
            pod: said(common.pod_name),
            watch_config_map: common.watch_config_map,
            pod_identity_file: given(common.watch_container_credentials_config),
            associations,
            report_interval: self
                .subcommand
                .map(|Subcommand::Report { interval }| Duration::from_secs(interval.into())),
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
