//! Environment variables: those that a container has, and those that injection adds.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

use super::expansion::literal;
use super::method::Method;
use super::pod::Container;
use super::prepared::Prepared;
use super::settings::Settings;
use super::token::{Token, Tokens};

pub(super) const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
pub(super) const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
pub(super) const ROLE_ARN: &str = "AWS_ROLE_ARN";
pub(super) const WEB_IDENTITY_TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";

/// The variables of the SDKs' container credentials provider. Most SDKs read `RELATIVE_URI` before `FULL_URI` and would send
/// the token there; the SDK for Java reads `TOKEN` before the token file.
pub(super) const CONTAINER_CREDENTIALS: [&str; 4] = [FULL_URI, TOKEN_FILE, CONFLICTING[0], CONFLICTING[1]];
/// The variables of that provider that replace the other two, or send the token elsewhere.
const CONFLICTING: [&str; 2] =
    ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];
/// The variables of the SDKs' web identity provider. Every SDK calls it before the container credentials provider.
pub(super) const WEB_IDENTITY: [&str; 2] = [ROLE_ARN, WEB_IDENTITY_TOKEN_FILE];
/// Static keys and profiles. All SDKs read them before they call the agent, and some (JavaScript, Rust) before web identity.
pub(super) const STATIC: [&str; 4] =
    ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"];
const REGIONAL_STS: &str = "AWS_STS_REGIONAL_ENDPOINTS";
const REGIONS: [&str; 2] = ["AWS_DEFAULT_REGION", "AWS_REGION"];

/// The addresses of the agent on every node. AWS's webhook injects them too.
const AGENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// A container's variables of one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Existing {
    Nothing,
    /// Both variables and a mount of the token, under the names and paths that this webhook and AWS's write, and no other
    /// variable of the provider.
    Injected,
    /// Both variables, and the service account token at their path, under other names or at another path.
    ByHand,
    /// Variables of the user that do not lead to credentials of the service account.
    Own(Vec<&'static str>),
}

/// Returns the state of a container's variables for the agent.
pub(super) fn container_credentials(
    container: &Container<'_>,
    tokens: &Tokens<'_>,
    prepared: &Prepared,
) -> Existing {
    let is_agent = value(container, FULL_URI).is_some_and(|uri| is_agent_uri(uri, prepared));
    let token = tokens.of(agent_method(container, prepared));
    let conflicting = present(container, &CONFLICTING);
    match existing(container, &CONTAINER_CREDENTIALS, is_agent, TOKEN_FILE, token, tokens) {
        Existing::Injected | Existing::ByHand if !conflicting.is_empty() => Existing::Own(conflicting),
        existing => existing,
    }
}

/// Returns the state of a container's variables for IRSA.
pub(super) fn web_identity(container: &Container<'_>, tokens: &Tokens<'_>) -> Existing {
    let has_role = container.variable(ROLE_ARN).is_some_and(|role| !role.is_empty());
    existing(container, &WEB_IDENTITY, has_role, WEB_IDENTITY_TOKEN_FILE, &tokens.web_identity, tokens)
}

fn existing(
    container: &Container<'_>,
    names: &[&'static str],
    is_first_usable: bool,
    token_file: &'static str,
    token: &Token<'_>,
    tokens: &Tokens<'_>,
) -> Existing {
    let own = present(container, names);
    if own.is_empty() {
        return Existing::Nothing;
    }
    let path = value(container, token_file).unwrap_or_default();
    if !is_first_usable || tokens.audience_at(container, path) != Some(token.audience) {
        return Existing::Own(own);
    }
    if token.is_usual(path) && token.is_injected(container) { Existing::Injected } else { Existing::ByHand }
}

/// Returns whether an address is the agent's. No token is injected beside another address, which would receive it.
fn is_agent_uri(uri: &str, prepared: &Prepared) -> bool {
    uri == literal(&prepared.settings.full_uri)
        || uri.starts_with(&prepared.roles_uri)
        || has_agent_address(uri)
}

/// Returns whether a URI has the agent's address, on any port.
fn has_agent_address(uri: &str) -> bool {
    let Ok(uri) = uri.parse::<Uri>() else { return false };
    let Some(authority) = uri.authority() else { return false };
    // Neither a user before the host nor an invalid port.
    let port = authority.as_str().strip_prefix(authority.host());
    let is_port = |rest: &str| {
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    uri.scheme_str() == Some("http")
        && port.is_some_and(is_port)
        && host.parse().is_ok_and(|host: IpAddr| AGENT.contains(&host))
}

/// Returns the method of a container's variables for the agent.
pub(super) fn agent_method(container: &Container<'_>, prepared: &Prepared) -> Method {
    match value(container, FULL_URI) {
        Some(uri) if uri.starts_with(&prepared.roles_uri) => Method::ThroughAgent,
        _ => Method::PodIdentity,
    }
}

/// Returns whether the agent's variables that a container sets itself fit those that it would get.
pub(super) fn fits_agent(
    container: &Container<'_>,
    method: Method,
    tokens: &Tokens<'_>,
    prepared: &Prepared,
) -> bool {
    let uri_fits = value(container, FULL_URI)
        .is_none_or(|uri| is_agent_uri(uri, prepared) && agent_method(container, prepared) == method);
    let file_fits = value(container, TOKEN_FILE)
        .is_none_or(|path| is_token_path(container, path, tokens.of(method), tokens));
    uri_fits && file_fits && present(container, &CONFLICTING).is_empty()
}

/// Returns whether a path is that of a token: its usual path, or a path at which the container mounts the token itself.
pub(super) fn is_token_path(
    container: &Container<'_>,
    path: &str,
    token: &Token<'_>,
    tokens: &Tokens<'_>,
) -> bool {
    token.is_usual(path) || tokens.audience_at(container, path) == Some(token.audience)
}

/// Returns the method with which a container was injected as a whole, by any webhook. `None` if it also sets variables of
/// another method.
pub(super) fn injected_method(
    container: &Container<'_>,
    tokens: &Tokens<'_>,
    prepared: &Prepared,
) -> Option<Method> {
    match (container_credentials(container, tokens, prepared), web_identity(container, tokens)) {
        (Existing::Injected, Existing::Nothing) => Some(agent_method(container, prepared)),
        (Existing::Nothing, Existing::Injected) => Some(Method::WebIdentity),
        _ => None,
    }
}

/// Returns the container's variables that SDKs read before those of a method.
pub(super) fn preceding(container: &Container<'_>, method: Method) -> Vec<&'static str> {
    let mut preceding = present(container, &STATIC);
    if method != Method::WebIdentity {
        preceding.extend(present(container, &WEB_IDENTITY));
    }
    preceding
}

/// Returns the variables that the container sets, also to an empty value, which botocore treats as set.
pub(super) fn present(container: &Container<'_>, names: &[&'static str]) -> Vec<&'static str> {
    names.iter().copied().filter(|name| container.variable(name).is_some()).collect()
}

/// Returns the value of a variable. It is empty if it comes from another object.
pub(super) fn value<'c>(container: &'c Container<'_>, name: &str) -> Option<&'c str> {
    container.variable(name).map(|variable| &*variable.value)
}

/// Returns all variables for a container, in the order of AWS's webhook: those of STS and the region that it does not set,
/// and `method`, the ones of the method.
pub(super) fn additions<'v>(
    method: impl IntoIterator<Item = (&'static str, Cow<'v, str>)>,
    regional_sts: bool,
    settings: &'v Settings,
    is_set: impl Fn(&str) -> bool,
) -> impl Iterator<Item = (&'static str, Cow<'v, str>)> {
    let regional_sts =
        (regional_sts && !is_set(REGIONAL_STS)).then_some((REGIONAL_STS, Cow::Borrowed("regional")));
    // A container with one of the two gets neither: SDKs would differ in which of two regions they use.
    let region = settings.region.as_deref().filter(|_| !REGIONS.iter().any(|name| is_set(name)));
    let regions = region.into_iter().flat_map(|region| REGIONS.map(|name| (name, Cow::Borrowed(region))));
    regional_sts.into_iter().chain(regions).chain(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_the_agent_by_its_address_on_any_port() {
        for (uri, expected) in [
            ("http://169.254.170.23/v1/credentials", true),
            ("http://169.254.170.23:8088/v1/credentials", true),
            ("http://169.254.170.23", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("http://[fd00:ec2:0::23]:8088/x", true),
            ("https://169.254.170.23/v1/credentials", false),
            ("http://169.254.170.2/v1/credentials", false),
            ("http://169.254.170.23@example.com/", false),
            ("http://169.254.170.23:80@example.com/", false),
            ("http://169.254.170.23.example.com/", false),
            ("http://169.254.170.23:$(PORT)/", false),
            ("169.254.170.23", false),
            ("/v1/credentials", false),
            ("", false),
        ] {
            assert_eq!(has_agent_address(uri), expected, "{uri}");
        }
    }
}
