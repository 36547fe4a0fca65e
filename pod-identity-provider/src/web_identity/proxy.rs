//! The proxy to STS.

use aws_smithy_http_client::proxy::ProxyConfig;

use crate::environment::{self as env, Environment};
use crate::error::Error;

/// The variables of a proxy in their order, as the SDK's own client reads them (hyper-util, `proxy::matcher`).
const FOR_HTTPS: [&str; 4] = [env::HTTPS_PROXY, env::HTTPS_PROXY_LOWERCASE, env::ALL_PROXY, env::ALL_PROXY_LOWERCASE];
const FOR_HTTP: [&str; 4] = [env::HTTP_PROXY, env::HTTP_PROXY_LOWERCASE, env::ALL_PROXY, env::ALL_PROXY_LOWERCASE];
const EXCEPT: [&str; 2] = [env::NO_PROXY, env::NO_PROXY_LOWERCASE];

/// Returns the proxy for a URL of that scheme, with the hosts that bypass it.
///
/// # Errors
/// [`Error::InvalidConfiguration`] for a value that is not a proxy's URL. The value is not in the error, since it may
/// hold a password.
pub(super) fn of(environment: &Environment, https: bool) -> Result<ProxyConfig, Error> {
    let Some((variable, url)) = first(environment, if https { FOR_HTTPS } else { FOR_HTTP }) else {
        return Ok(ProxyConfig::disabled());
    };
    // Curl accepts a host without a scheme too.
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let proxy = ProxyConfig::all(url).map_err(|_| {
        let hint = "Set it to a URL such as http://proxy.example.com:3128, or add STS's host to NO_PROXY";
        Error::unusable(variable, "is not the URL of an http or https proxy", hint)
    })?;
    Ok(match first(environment, EXCEPT) {
        Some((_, hosts)) => proxy.no_proxy(hosts),
        None => proxy,
    })
}

fn first<'a, const N: usize>(
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
    fn the_proxy_of_the_scheme_wins_over_the_proxy_for_all_and_capitals_over_small_letters() {
        let all = [
            ("HTTPS_PROXY", "http://first"),
            ("https_proxy", "second"),
            ("ALL_PROXY", "https://third:8443"),
            ("all_proxy", "http://user:password@fourth:3128"),
        ];
        for (left, names) in [(0, "first"), (1, "second"), (2, "third:8443"), (3, "fourth:3128")] {
            let text = proxy(true, &all[left..]).unwrap();
            assert!(text.contains("All {") && text.contains(names), "{text}");
        }
        let text = proxy(false, &[all[0], all[1]]).unwrap();
        assert!(text.contains("Disabled"), "{text}");
        let text = proxy(false, &[all[0], ("http_proxy", "other")]).unwrap();
        assert!(text.contains("http://other"), "{text}");
    }

    #[test]
    fn hosts_that_bypass_the_proxy_are_read() {
        let text = proxy(true, &[("HTTPS_PROXY", "first"), ("no_proxy", "sts.internal")]).unwrap();
        assert!(text.contains("sts.internal"), "{text}");
    }

    #[test]
    fn an_invalid_proxy_is_refused_and_does_not_print() {
        for url in ["socks5://user:password@proxy:1080", "http://", "no proxy, password", "http://:password@"]
        {
            let error = proxy(true, &[("https_proxy", url)]).unwrap_err().to_string();
            assert!(error.contains("https_proxy") && !error.contains("password"), "{url}: {error}");
        }
    }
}
