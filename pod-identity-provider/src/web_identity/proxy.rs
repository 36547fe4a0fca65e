//! The proxy for requests to STS.

use aws_smithy_http_client::proxy::ProxyConfig;

use crate::environment::{self as env, Environment};
use crate::error::Error;

/// The proxy variables in order of precedence, as in the SDK's default client (hyper-util, `proxy::matcher`).
const HTTPS_VARIABLES: [&str; 4] =
    [env::HTTPS_PROXY, env::HTTPS_PROXY_LOWERCASE, env::ALL_PROXY, env::ALL_PROXY_LOWERCASE];
const HTTP_VARIABLES: [&str; 4] =
    [env::HTTP_PROXY, env::HTTP_PROXY_LOWERCASE, env::ALL_PROXY, env::ALL_PROXY_LOWERCASE];
const NO_PROXY_VARIABLES: [&str; 2] = [env::NO_PROXY, env::NO_PROXY_LOWERCASE];

/// Returns the proxy for a URL of that scheme, with the hosts that bypass it.
///
/// # Errors
/// [`Error::InvalidConfiguration`] for a value that is not a proxy's URL. The error does not contain the value, because it
/// may include a password.
pub(super) fn of(environment: &Environment, https: bool) -> Result<ProxyConfig, Error> {
    let Some((variable, url)) = first_set(environment, if https { HTTPS_VARIABLES } else { HTTP_VARIABLES })
    else {
        return Ok(ProxyConfig::disabled());
    };
    // A host without a scheme is allowed, as in curl.
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let proxy = ProxyConfig::all(url).map_err(|_| {
        let hint = "Set it to a URL such as http://proxy.example.com:3128, or add STS's host to NO_PROXY";
        Error::unusable(variable, "is not the URL of an http or https proxy", hint)
    })?;
    Ok(match first_set(environment, NO_PROXY_VARIABLES) {
        Some((_, hosts)) => proxy.no_proxy(hosts),
        None => proxy,
    })
}

fn first_set<'a, const N: usize>(
    environment: &'a Environment,
    names: [&'static str; N],
) -> Option<(&'static str, &'a str)> {
    names.into_iter().find_map(|name| Some((name, environment.get(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(https: bool, variables: &[(&str, &str)]) -> Result<String, Error> {
        of(&variables.iter().copied().collect(), https).map(|proxy| format!("{proxy:?}"))
    }

    #[test]
    fn proxy_of_the_scheme_precedes_all_proxy_and_upper_case_precedes_lower_case() {
        let all = [
            ("HTTPS_PROXY", "http://first"),
            ("https_proxy", "second"),
            ("ALL_PROXY", "https://third:8443"),
            ("all_proxy", "http://user:password@fourth:3128"),
        ];
        for (skipped, host) in [(0, "first"), (1, "second"), (2, "third:8443"), (3, "fourth:3128")] {
            let text = proxy(true, &all[skipped..]).unwrap();
            assert!(text.contains("All {") && text.contains(host), "{text}");
        }
        let text = proxy(false, &[all[0], all[1]]).unwrap();
        assert!(text.contains("Disabled"), "{text}");
        let text = proxy(false, &[all[0], ("http_proxy", "other")]).unwrap();
        assert!(text.contains("http://other"), "{text}");
    }

    #[test]
    fn no_proxy_sets_the_hosts_that_bypass_the_proxy() {
        let text = proxy(true, &[("HTTPS_PROXY", "first"), ("no_proxy", "sts.internal")]).unwrap();
        assert!(text.contains("sts.internal"), "{text}");
    }

    #[test]
    fn rejects_an_invalid_proxy_without_printing_it() {
        for url in ["socks5://user:password@proxy:1080", "http://", "no proxy, password", "http://:password@"]
        {
            let error = proxy(true, &[("https_proxy", url)]).unwrap_err().to_string();
            assert!(error.contains("https_proxy") && !error.contains("password"), "{url}: {error}");
        }
    }
}
