//! The methods of getting credentials, and the choice by environment variables.

use std::fmt;

use crate::environment::{self as env, Environment};
use crate::error::Error;

/// A method of getting credentials in a pod.
///
/// ```
/// use pod_identity_provider::{Method, PodIdentityCredentialsProvider};
///
/// // IRSA only: EKS Pod Identity's variables are ignored.
/// let provider = PodIdentityCredentialsProvider::builder().methods([Method::WebIdentity]).build();
/// # drop(provider);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// EKS Pod Identity: an agent on the node exchanges the pod's token (*EKS user guide*, *EKS Pod Identity*). This method
    /// also covers other services with the container credentials protocol, such as Amazon ECS.
    PodIdentity,
    /// IAM roles for service accounts (IRSA): STS exchanges the pod's token (`AssumeRoleWithWebIdentity`). It needs the
    /// feature `irsa`.
    WebIdentity,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PodIdentity => "EKS Pod Identity",
            Self::WebIdentity => "web identity (IRSA)",
        })
    }
}

/// Returns the first of these methods whose variables are set. Whether the method works does not matter: the next method
/// might give another role.
///
/// # Errors
/// [`Error::NotConfigured`] if no method has all its variables. It names the missing variables of each method.
/// [`Error::InvalidConfiguration`] if the list is empty.
pub(crate) fn choose(methods: &[Method], environment: &Environment) -> Result<Method, Error> {
    let missing = |names: &[&'static str]| -> Vec<_> {
        names.iter().copied().filter(|name| !environment.has(name)).collect()
    };
    let mut incomplete = Vec::new();
    for method in methods {
        let variables = match method {
            Method::PodIdentity => {
                let uris = missing(&[env::FULL_URI, env::RELATIVE_URI]);
                // One of the two is enough.
                if uris.len() < 2 {
                    return Ok(*method);
                }
                uris.join(" or ")
            }
            Method::WebIdentity => {
                let both = missing(&[env::ROLE_ARN, env::WEB_IDENTITY_TOKEN_FILE]);
                if both.is_empty() {
                    return Ok(*method);
                }
                both.join(" and ")
            }
        };
        incomplete.push(format!("{variables} for {method}"));
    }
    Err(if incomplete.is_empty() { Error::no_method() } else { Error::not_configured(incomplete.join("; ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Method; 2] = [Method::PodIdentity, Method::WebIdentity];

    fn chosen(methods: &[Method], names: &[&str]) -> Result<Method, Error> {
        choose(methods, &names.iter().map(|name| (*name, "value")).collect())
    }

    #[test]
    fn chooses_the_first_method_whose_variables_are_set() {
        let irsa = [env::ROLE_ARN, env::WEB_IDENTITY_TOKEN_FILE];
        let all = [env::FULL_URI, irsa[0], irsa[1]];
        assert_eq!(chosen(&BOTH, &all).unwrap(), Method::PodIdentity);
        assert_eq!(chosen(&[Method::WebIdentity, Method::PodIdentity], &all).unwrap(), Method::WebIdentity);
        assert_eq!(chosen(&BOTH, &irsa).unwrap(), Method::WebIdentity);
        assert_eq!(chosen(&BOTH, &[env::RELATIVE_URI]).unwrap(), Method::PodIdentity);
    }

    #[test]
    fn rejects_an_empty_list_of_methods() {
        let error = chosen(&[], &[env::FULL_URI]).unwrap_err();
        assert!(matches!(error, Error::InvalidConfiguration(_)), "{error}");
        assert!(error.to_string().contains("empty list of `methods`"), "{error}");
    }

    #[test]
    fn error_names_the_missing_variables_of_each_method() {
        let error = chosen(&BOTH, &[env::ROLE_ARN]).unwrap_err().to_string();
        for name in [env::FULL_URI, env::RELATIVE_URI, env::WEB_IDENTITY_TOKEN_FILE] {
            assert!(error.contains(name), "{name} in: {error}");
        }
        assert!(!error.contains(env::ROLE_ARN), "{error}");
    }
}
