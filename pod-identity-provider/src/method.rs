//! Which way of getting credentials the environment is set up for.

use std::fmt;

use aws_credential_types::provider::SharedCredentialsProvider;

use crate::environment::{self as env, Environment};
use crate::error::Error;

/// A way for a pod to get credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// EKS Pod Identity: an agent on the node exchanges the pod's token (*EKS user guide*, *EKS Pod Identity*). Any
    /// other service that speaks the protocol of a container's credentials goes by this name too.
    PodIdentity,
    /// IAM roles for service accounts: STS exchanges the pod's token itself (`AssumeRoleWithWebIdentity`). It needs the
    /// feature `irsa`.
    WebIdentity,
    /// What was given with [`or_else`](crate::PodIdentityCredentialsProviderBuilder::or_else), by the name that it was
    /// given. It is last of all: among the [`methods`](crate::PodIdentityCredentialsProviderBuilder::methods) it stands for
    /// nothing.
    Other(&'static str),
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodIdentity => f.write_str("EKS Pod Identity"),
            Self::WebIdentity => f.write_str("web identity (IRSA)"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// A provider for whatever the environment leaves.
pub(crate) type Fallback = (&'static str, SharedCredentialsProvider);

/// A method, with what it asks where the environment does not say that.
#[derive(Debug)]
pub(crate) enum Chosen {
    PodIdentity,
    WebIdentity,
    Other(Fallback),
}

impl Chosen {
    pub(crate) fn method(&self) -> Method {
        match self {
            Self::PodIdentity => Method::PodIdentity,
            Self::WebIdentity => Method::WebIdentity,
            Self::Other((name, _)) => Method::Other(name),
        }
    }
}

/// The first of these methods that the environment is set up for. One that is set up but does not work is never
/// passed over: another might give another role.
///
/// # Errors
/// [`Error::NotConfigured`]: for none, with the variables that each lacks. [`Error::NoMethod`] where the list has none that
/// the environment could be set up for.
pub(crate) fn choose(
    methods: &[Method],
    environment: &Environment,
    fallback: Option<Fallback>,
) -> Result<Chosen, Error> {
    let missing = |names: &[&'static str]| -> Vec<_> {
        names.iter().copied().filter(|name| !environment.has(name)).collect()
    };
    let mut lacking = Vec::new();
    for method in methods {
        let lacks = match method {
            Method::PodIdentity => {
                let uris = missing(&[env::FULL_URI, env::RELATIVE_URI]);
                // Either of them will do.
                if uris.len() < 2 {
                    return Ok(Chosen::PodIdentity);
                }
                uris.join(" or ")
            }
            Method::WebIdentity => {
                let both = missing(&[env::ROLE_ARN, env::WEB_IDENTITY_TOKEN_FILE]);
                if both.is_empty() {
                    return Ok(Chosen::WebIdentity);
                }
                both.join(" and ")
            }
            Method::Other(_) => continue,
        };
        lacking.push(format!("for {method}, {lacks}"));
    }
    match fallback {
        Some(fallback) => Ok(Chosen::Other(fallback)),
        None if lacking.is_empty() => Err(Error::NoMethod),
        None => Err(Error::NotConfigured { missing: lacking.join("; ") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Method; 2] = [Method::PodIdentity, Method::WebIdentity];

    fn environment(names: &[&str]) -> Environment {
        names.iter().map(|name| (*name, "value")).collect()
    }

    fn chosen(methods: &[Method], names: &[&str]) -> Result<Method, Error> {
        choose(methods, &environment(names), None).map(|chosen| chosen.method())
    }

    #[test]
    fn the_first_method_wins_that_the_environment_is_set_up_for() {
        let irsa = [env::ROLE_ARN, env::WEB_IDENTITY_TOKEN_FILE];
        let all = [env::FULL_URI, irsa[0], irsa[1]];
        assert_eq!(chosen(&BOTH, &all).unwrap(), Method::PodIdentity);
        assert_eq!(chosen(&[Method::WebIdentity, Method::PodIdentity], &all).unwrap(), Method::WebIdentity);
        assert_eq!(chosen(&BOTH, &irsa).unwrap(), Method::WebIdentity);
        assert_eq!(chosen(&BOTH, &[env::RELATIVE_URI]).unwrap(), Method::PodIdentity);
    }

    #[test]
    fn a_list_without_a_method_that_can_be_set_up_is_said_to_be_that() {
        for methods in [&[][..], &[Method::Other("another")]] {
            let error = chosen(methods, &[env::FULL_URI]).unwrap_err();
            assert!(matches!(error, Error::NoMethod), "{error:?}");
            assert!(error.to_string().contains("`methods`"), "{error}");
        }
        let with_another = [Method::Other("another"), Method::PodIdentity];
        assert_eq!(chosen(&with_another, &[env::FULL_URI]).unwrap(), Method::PodIdentity);
        let error = chosen(&with_another, &[]).unwrap_err().to_string();
        assert!(error.contains(env::FULL_URI) && !error.contains("another"), "{error}");
    }

    #[test]
    fn where_nothing_is_set_up_the_error_names_what_each_method_lacks() {
        let error = choose(&BOTH, &environment(&[env::ROLE_ARN]), None).unwrap_err().to_string();
        for name in [env::FULL_URI, env::RELATIVE_URI, env::WEB_IDENTITY_TOKEN_FILE] {
            assert!(error.contains(name), "{name} in: {error}");
        }
        assert!(!error.contains(env::ROLE_ARN), "{error}");
    }
}
