//! The environment variables that the provider reads.

use std::collections::HashMap;
use std::fmt;

use zeroize::Zeroizing;

/// The variables of AWS's SDKs (AWS SDKs and Tools reference, *Container credential provider*, *Assume role credential
/// provider*, *Service-specific endpoints*), the host name, and the proxy variables (`curl(1)`, *ENVIRONMENT*).
const VARIABLES: [&str; 25] = [
    RELATIVE_URI,
    FULL_URI,
    TOKEN_FILE,
    TOKEN,
    ROLE_ARN,
    WEB_IDENTITY_TOKEN_FILE,
    ROLE_SESSION_NAME,
    REGION,
    DEFAULT_REGION,
    ENDPOINT_URL,
    ENDPOINT_URL_STS,
    IGNORE_CONFIGURED_ENDPOINT_URLS,
    USE_FIPS_ENDPOINT,
    USE_DUALSTACK_ENDPOINT,
    CONTAINER_HOST_NAME,
    HTTPS_PROXY,
    HTTPS_PROXY_LOWERCASE,
    HTTP_PROXY,
    HTTP_PROXY_LOWERCASE,
    ALL_PROXY,
    ALL_PROXY_LOWERCASE,
    NO_PROXY,
    NO_PROXY_LOWERCASE,
    ACCESS_KEY_ID,
    PROFILE,
];

pub(crate) const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
pub(crate) const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
pub(crate) const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
pub(crate) const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
pub(crate) const ROLE_ARN: &str = "AWS_ROLE_ARN";
pub(crate) const WEB_IDENTITY_TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
pub(crate) const ROLE_SESSION_NAME: &str = "AWS_ROLE_SESSION_NAME";
pub(crate) const REGION: &str = "AWS_REGION";
pub(crate) const DEFAULT_REGION: &str = "AWS_DEFAULT_REGION";
pub(crate) const ENDPOINT_URL: &str = "AWS_ENDPOINT_URL";
pub(crate) const ENDPOINT_URL_STS: &str = "AWS_ENDPOINT_URL_STS";
pub(crate) const IGNORE_CONFIGURED_ENDPOINT_URLS: &str = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS";
pub(crate) const USE_FIPS_ENDPOINT: &str = "AWS_USE_FIPS_ENDPOINT";
pub(crate) const USE_DUALSTACK_ENDPOINT: &str = "AWS_USE_DUALSTACK_ENDPOINT";
/// The host name. Kubelet sets it to the pod's name.
pub(crate) const CONTAINER_HOST_NAME: &str = "HOSTNAME";
pub(crate) const HTTPS_PROXY: &str = "HTTPS_PROXY";
pub(crate) const HTTPS_PROXY_LOWERCASE: &str = "https_proxy";
pub(crate) const HTTP_PROXY: &str = "HTTP_PROXY";
pub(crate) const HTTP_PROXY_LOWERCASE: &str = "http_proxy";
pub(crate) const ALL_PROXY: &str = "ALL_PROXY";
pub(crate) const ALL_PROXY_LOWERCASE: &str = "all_proxy";
pub(crate) const NO_PROXY: &str = "NO_PROXY";
pub(crate) const NO_PROXY_LOWERCASE: &str = "no_proxy";
/// Read for a warning only. `AWS_SECRET_ACCESS_KEY` is not read.
pub(crate) const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
pub(crate) const PROFILE: &str = "AWS_PROFILE";

/// The environment variables of a provider: those of the process, or values from the program.
///
/// An empty variable counts as not set, because a pod's spec can empty a variable but not remove it. `Debug` prints no
/// values, because they include a token and a proxy's password.
///
/// ```
/// use pod_identity_provider::{Environment, Method, PodIdentityCredentialsProvider};
///
/// let environment = Environment::of_process()
///     .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials")
///     .with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/var/run/secrets/eks-pod-identity-token");
/// let provider = PodIdentityCredentialsProvider::builder().environment(environment).build();
/// assert_eq!(provider.method(), Some(Method::PodIdentity));
/// ```
///
/// | for | variables |
/// |---|---|
/// | EKS Pod Identity | `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` before `AWS_CONTAINER_CREDENTIALS_FULL_URI`; `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` before `AWS_CONTAINER_AUTHORIZATION_TOKEN` |
/// | IRSA | `AWS_ROLE_ARN`, `AWS_WEB_IDENTITY_TOKEN_FILE`; `AWS_ROLE_SESSION_NAME`, else `HOSTNAME`, which is the pod's name |
/// | STS | `AWS_REGION` before `AWS_DEFAULT_REGION`; `AWS_ENDPOINT_URL_STS` before `AWS_ENDPOINT_URL`, unless `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS` is `true`; `AWS_USE_FIPS_ENDPOINT`, `AWS_USE_DUALSTACK_ENDPOINT` |
/// | a proxy to STS | `HTTPS_PROXY`, or `HTTP_PROXY` for a custom URL over http, each before `ALL_PROXY`; `NO_PROXY`; each in upper case before lower case |
/// | a warning only | `AWS_ACCESS_KEY_ID`, `AWS_PROFILE` |
///
/// The variables have the same meaning as in AWS's SDKs (AWS SDKs and Tools reference, *Container credential provider*,
/// *Assume role credential provider*, *AWS Region*, *Service-specific endpoints*, *Dual-stack and FIPS endpoints*).
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, Zeroizing<String>>);

impl Environment {
    /// Reads the variables of this process.
    pub fn of_process() -> Self {
        let value = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        VARIABLES.into_iter().filter_map(|name| Some((name, value(name)?))).collect()
    }

    /// Sets one variable. An empty value unsets it. A program uses this to choose a role, region or session name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), Zeroizing::new(value.into()));
        if value.is_empty() {
            self.0.remove(&name);
        } else {
            self.0.insert(name, value);
        }
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables =
            variables.into_iter().map(|(name, value)| (name.into(), Zeroizing::new(value.into())));
        Self(variables.filter(|(_, value)| !value.is_empty()).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.0.keys().collect();
        names.sort();
        f.debug_tuple("Environment").field(&names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_no_values_and_empty_variables_are_not_set() {
        let environment = Environment::from_iter([(TOKEN, "secret"), (FULL_URI, "")]);
        assert_eq!(format!("{environment:?}"), r#"Environment(["AWS_CONTAINER_AUTHORIZATION_TOKEN"])"#);
        assert_eq!(environment.get(TOKEN), Some("secret"));
        assert!(!environment.has(FULL_URI));
        let other = environment.with(TOKEN, "").with(ROLE_ARN, "role");
        assert_eq!((other.has(TOKEN), other.get(ROLE_ARN)), (false, Some("role")));
    }
}
