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
    /// What was given with
    /// [`or_else`](crate::PodIdentityCredentialsProviderBuilder::or_else), by the name that it was given.
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

/// The first of these methods that the environment is set up for. One that is set up but does not work is never
/// passed over: another might give another role.
///
/// # Errors
/// [`Error::NotConfigured`]: for none, with the variables that each lacks.
pub(crate) fn choose(
    methods: &[Method],
    environment: &Environment,
    fallback: Option<&Fallback>,
) -> Result<Method, Error> {
    if let Some(method) = methods.iter().find(|method| lacks(**method, environment).is_empty()) {
        return Ok(*method);
    }
    if let Some((name, _)) = fallback {
        return Ok(Method::Other(name));
    }
    let lacking = methods.iter().map(|method| {
        let and = if *method == Method::PodIdentity { " or " } else { " and " };
        format!("for {method}, {}", lacks(*method, environment).join(and))
    });
    Err(Error::NotConfigured { missing: lacking.collect::<Vec<_>>().join("; ") })
}

/// The variables that a method lacks.
fn lacks(method: Method, environment: &Environment) -> Vec<&'static str> {
    let missing = |names: &[&'static str]| -> Vec<_> {
        names.iter().copied().filter(|name| !environment.has(name)).collect()
    };
    match method {
        // Either of them will do.
        Method::PodIdentity => {
            let uris = missing(&[env::FULL_URI, env::RELATIVE_URI]);
            if uris.len() < 2 { Vec::new() } else { uris }
        }
        Method::WebIdentity => missing(&[env::ROLE_ARN, env::WEB_IDENTITY_TOKEN_FILE]),
        Method::Other(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Method; 2] = [Method::PodIdentity, Method::WebIdentity];

    fn environment(names: &[&str]) -> Environment {
        names.iter().map(|name| (*name, "value")).collect()
    }

    #[test]
    fn the_first_method_wins_that_the_environment_is_set_up_for() {
        let irsa = [env::ROLE_ARN, env::WEB_IDENTITY_TOKEN_FILE];
        let all = environment(&[env::FULL_URI, irsa[0], irsa[1]]);
        assert_eq!(choose(&BOTH, &all, None).unwrap(), Method::PodIdentity);
        let reversed = [Method::WebIdentity, Method::PodIdentity];
        assert_eq!(choose(&reversed, &all, None).unwrap(), Method::WebIdentity);
        assert_eq!(choose(&BOTH, &environment(&irsa), None).unwrap(), Method::WebIdentity);
        assert_eq!(choose(&BOTH, &environment(&[env::RELATIVE_URI]), None).unwrap(), Method::PodIdentity);
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
