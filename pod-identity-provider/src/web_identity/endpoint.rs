//! The client of STS.

use aws_sdk_sts::Client;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{BehaviorVersion, Config, Region, RuntimeComponents};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::proxy;
use crate::environment::{self as env, Environment};
use crate::error::Error;
use crate::transport::Transport;

/// Returns a client of STS in the pod's region. It does not sign, because the call is authorized by the token alone.
///
/// # Errors
/// [`Error::InvalidConfiguration`] if the region is missing or the proxy URL is invalid.
pub(super) fn client(environment: &Environment, transport: &Transport) -> Result<Client, Error> {
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(transport.deadline)
        .operation_attempt_timeout(transport.attempt_timeout)
        .build();
    let url = url(environment);
    let http_client = match &transport.http_client {
        Some(client) => client.clone(),
        None => client_with_proxy(proxy::of(environment, url.is_none_or(is_https))?),
    };
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region(environment)?))
        .http_client(http_client)
        .sleep_impl(transport.timer.shared())
        .time_source(transport.clock.clone())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard());
    config.set_endpoint_url(url.map(str::to_owned));
    config.set_use_fips(Some(is_true(environment, env::USE_FIPS_ENDPOINT)));
    config.set_use_dual_stack(Some(is_true(environment, env::USE_DUALSTACK_ENDPOINT)));
    Ok(Client::from_conf(config.build()))
}

/// Returns the region. `AWS_REGION` takes precedence, as in the SDKs. boto3 and the AWS CLI read only `AWS_DEFAULT_REGION`.
fn region(environment: &Environment) -> Result<String, Error> {
    let region = environment.get(env::REGION).or_else(|| environment.get(env::DEFAULT_REGION));
    region.map(str::to_owned).ok_or_else(|| {
        let reason = format!("is not set, nor is {}", env::DEFAULT_REGION);
        Error::unusable(
            env::REGION,
            &reason,
            "Set one of them in the pod's spec: IRSA calls STS in that region",
        )
    })
}

/// Returns the custom URL of STS, if one is set (AWS SDKs and Tools reference, *Service-specific endpoints*).
fn url(environment: &Environment) -> Option<&str> {
    if is_true(environment, env::IGNORE_CONFIGURED_ENDPOINT_URLS) {
        return None;
    }
    environment.get(env::ENDPOINT_URL_STS).or_else(|| environment.get(env::ENDPOINT_URL))
}

fn is_https(url: &str) -> bool {
    url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

fn is_true(environment: &Environment, name: &str) -> bool {
    environment.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Returns the SDK's default client with this proxy. The SDK's default client does not read `HTTPS_PROXY`, and
/// `ProxyConfig::from_env` reads only the variables of the process.
fn client_with_proxy(proxy: ProxyConfig) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder();
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector
            .connector_settings(settings.cloned().unwrap_or_default())
            .proxy_config(proxy.clone())
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .build()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().copied().collect()
    }

    #[test]
    fn aws_region_takes_precedence_and_the_error_names_both_variables() {
        let both = environment(&[(env::REGION, "eu-west-1"), (env::DEFAULT_REGION, "eu-west-2")]);
        assert_eq!(region(&both).unwrap(), "eu-west-1");
        assert_eq!(region(&environment(&[(env::DEFAULT_REGION, "eu-west-2")])).unwrap(), "eu-west-2");
        let error = region(&environment(&[])).unwrap_err().to_string();
        assert!(error.contains("AWS_REGION") && error.contains("AWS_DEFAULT_REGION"), "{error}");
    }

    #[test]
    fn url_of_sts_takes_precedence_and_urls_can_be_ignored() {
        let (sts, all) = ((env::ENDPOINT_URL_STS, "https://sts"), (env::ENDPOINT_URL, "https://all"));
        let ignored = |value| (env::IGNORE_CONFIGURED_ENDPOINT_URLS, value);
        assert_eq!(url(&environment(&[all, sts])), Some("https://sts"));
        assert_eq!(url(&environment(&[all])), Some("https://all"));
        assert_eq!(url(&environment(&[all, sts, ignored("True")])), None);
        assert_eq!(url(&environment(&[all, ignored("false")])), Some("https://all"));
        assert_eq!(url(&environment(&[])), None);
    }
}
