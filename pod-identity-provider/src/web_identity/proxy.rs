//! Which proxy STS is asked by.

use aws_smithy_http_client::proxy::ProxyConfig;

use crate::environment::{self as env, Environment};
use crate::error::Error;

/// The variables of a proxy, in their order: capitals first, and one for all where there is none for the scheme, as the
/// SDK's own client reads them (hyper-util, `proxy::matcher`).
const FOR_HTTPS: [&str; 4] = [env::HTTPS_PROXY, env::HTTPS_PROXY_SMALL, env::ALL_PROXY, env::ALL_PROXY_SMALL];
const FOR_HTTP: [&str; 4] = [env::HTTP_PROXY, env::HTTP_PROXY_SMALL, env::ALL_PROXY, env::ALL_PROXY_SMALL];
const EXCEPT: [&str; 2] = [env::NO_PROXY, env::NO_PROXY_SMALL];

/// The proxy that the environment names for a URL of that scheme, and the hosts that are asked without it.
///
/// # Errors
/// [`Error::Unusable`] for a URL that names no proxy: asked without it, STS would not be reached. The URL is not in the
/// error, since there may be a password in it.
pub(super) fn of(environment: &Environment, https: bool) -> Result<ProxyConfig, Error> {
    let Some((variable, url)) = first(environment, if https { FOR_HTTPS } else { FOR_HTTP }) else {
        return Ok(ProxyConfig::disabled());
    };
    // Curl takes a host alone too.
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let proxy = ProxyConfig::all(url).map_err(|_| Error::Unusable {
        variable,
        reason: "is no URL of a proxy over http or https".to_owned(),
        hint: "Give a URL such as http://proxy.example.com:3128, and STS's host in NO_PROXY if it is to be asked without",
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
    fn a_schemes_proxy_goes_before_the_one_for_all_and_capitals_before_small_letters() {
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
    fn hosts_that_are_asked_without_a_proxy_go_with_it() {
        let text = proxy(true, &[("HTTPS_PROXY", "first"), ("no_proxy", "sts.internal")]).unwrap();
        assert!(text.contains("sts.internal"), "{text}");
    }

    #[test]
    fn what_names_no_proxy_is_refused_and_does_not_print() {
        for url in ["socks5://user:password@proxy:1080", "http://", "no proxy, password", "http://:password@"]
        {
            let error = proxy(true, &[("https_proxy", url)]).unwrap_err().to_string();
            assert!(error.contains("https_proxy") && !error.contains("password"), "{url}: {error}");
        }
    }
}
