//! Environment variables: what a container has of them, and what it is given.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;
use serde_json::{Value, json};

use super::method::Method;
use super::pod::Container;
use super::settings::Settings;
pub(super) use super::volume::literal;
use super::volume::{Token, Tokens};

pub(super) const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
pub(super) const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
pub(super) const ROLE_ARN: &str = "AWS_ROLE_ARN";
pub(super) const WEB_IDENTITY_TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";

/// What the SDKs' container provider reads. It is one family: most SDKs take `RELATIVE_URI` before `FULL_URI`
/// and would send the token there, and the Java SDK takes `TOKEN` before its file.
pub(super) const CONTAINER_CREDENTIALS: [&str; 4] = [FULL_URI, TOKEN_FILE, BREAKS[0], BREAKS[1]];
/// Those of the family that take the place of the other two, or send the token elsewhere.
const BREAKS: [&str; 2] = ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];
/// What the SDKs' web identity provider reads. Every SDK asks it before the container provider.
pub(super) const WEB_IDENTITY: [&str; 2] = [ROLE_ARN, WEB_IDENTITY_TOKEN_FILE];
/// What SDKs look at before either: keys, and a profile's. All SDKs read these files before they call the agent, and
/// some (JavaScript, Rust) before web identity.
pub(super) const BEFORE_ALL: [&str; 4] =
    ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"];

/// The addresses of the agent on every node, where AWS's webhook leads SDKs too.
const AGENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// What a container has of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carried {
    Nothing,
    /// Both variables and a mount of the token, under the names and paths that this webhook and AWS's write; and no
    /// other variable of the family.
    Injected,
    /// Both variables, and the service account's token where they lead, under other names or at another path.
    ByHand,
    /// Something else: the user's own.
    Own(Vec<&'static str>),
}

/// What a container has of Pod Identity's variables.
pub(super) fn container_credentials(
    container: &Container<'_>,
    tokens: &Tokens<'_>,
    settings: &Settings,
) -> Carried {
    let leads = value(container, FULL_URI).is_some_and(|uri| leads_to_agent(uri, settings));
    let token = tokens.of(method_of_agent(container, settings));
    let breaking = present(container, &BREAKS);
    match carried(container, &CONTAINER_CREDENTIALS, leads, TOKEN_FILE, token, tokens) {
        Carried::Injected | Carried::ByHand if !breaking.is_empty() => Carried::Own(breaking),
        carried => carried,
    }
}

/// IRSA's variables in a container.
pub(super) fn web_identity(container: &Container<'_>, tokens: &Tokens<'_>) -> Carried {
    let role = container.variable(ROLE_ARN).is_some_and(|role| !role.is_switched_off());
    carried(container, &WEB_IDENTITY, role, WEB_IDENTITY_TOKEN_FILE, &tokens.web_identity, tokens)
}

fn carried(
    container: &Container<'_>,
    family: &[&'static str],
    first_is_set: bool,
    token_file: &'static str,
    token: &Token<'_>,
    tokens: &Tokens<'_>,
) -> Carried {
    let own = present(container, family);
    let path = value(container, token_file).unwrap_or_default();
    match tokens.audience_at(container, path) {
        _ if own.is_empty() => Carried::Nothing,
        Some(audience) if first_is_set && audience == token.projection.audience => {
            if token.is_usual(path) && token.is_injected(container) {
                Carried::Injected
            } else {
                Carried::ByHand
            }
        }
        _ => Carried::Own(own),
    }
}

/// Whether this address leads SDKs to the agent. No token is injected beside another address.
fn leads_to_agent(uri: &str, settings: &Settings) -> bool {
    uri == literal(&settings.full_uri) || uri.starts_with(&settings.roles_uri()) || is_of_agent(uri)
}

/// Whether an address is the agent's, on any port.
fn is_of_agent(uri: &str) -> bool {
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

/// Which way it is for which a container has Pod Identity's variables.
pub(super) fn method_of_agent(container: &Container<'_>, settings: &Settings) -> Method {
    let asks_for_a_role = |uri: &str| uri.starts_with(&settings.roles_uri());
    match value(container, FULL_URI) {
        Some(uri) if asks_for_a_role(uri) => Method::ThroughAgent,
        _ => Method::PodIdentity,
    }
}

/// Whether the Pod Identity variables that a container sets itself fit those that it would get.
pub(super) fn goes_with_agent(
    container: &Container<'_>,
    method: Method,
    tokens: &Tokens<'_>,
    settings: &Settings,
) -> bool {
    let token = tokens.of(method);
    let uri_fits = value(container, FULL_URI)
        .is_none_or(|uri| leads_to_agent(uri, settings) && method_of_agent(container, settings) == method);
    let file_fits = value(container, TOKEN_FILE).is_none_or(|path| reaches(container, path, token, tokens));
    uri_fits && file_fits && present(container, &BREAKS).is_empty()
}

/// Whether a path leads to a token: its usual path, or a path where the container mounts it itself.
pub(super) fn reaches(container: &Container<'_>, path: &str, token: &Token<'_>, tokens: &Tokens<'_>) -> bool {
    token.is_usual(path) || tokens.audience_at(container, path) == Some(&token.projection.audience)
}

/// The method by which a container is complete, whichever webhook injected it. `None` if it also sets variables of
/// another method.
pub(super) fn whole(container: &Container<'_>, tokens: &Tokens<'_>, settings: &Settings) -> Option<Method> {
    let families = (container_credentials(container, tokens, settings), web_identity(container, tokens));
    match families {
        (Carried::Injected, Carried::Nothing) => Some(method_of_agent(container, settings)),
        (Carried::Nothing, Carried::Injected) => Some(Method::WebIdentity),
        _ => None,
    }
}

/// Those of the container's variables that SDKs look at before those of a way.
pub(super) fn winning(container: &Container<'_>, method: Method) -> Vec<&'static str> {
    let mut winning = present(container, &BEFORE_ALL);
    if method != Method::WebIdentity {
        winning.extend(present(container, &WEB_IDENTITY));
    }
    winning
}

/// Those of these variables that the container sets, empty ones too: botocore takes an empty one for set.
pub(super) fn present(container: &Container<'_>, names: &[&'static str]) -> Vec<&'static str> {
    names.iter().copied().filter(|name| container.variable(name).is_some()).collect()
}

/// The value of a variable, which is empty where it comes from elsewhere.
pub(super) fn value<'c>(container: &'c Container<'_>, name: &str) -> Option<&'c str> {
    container.variable(name).map(|variable| &*variable.value)
}

/// All that a container is given, in the order of AWS's webhook.
pub(super) fn additions(
    container: &Container<'_>,
    variables: impl IntoIterator<Item = (&'static str, String)>,
    regional_sts: bool,
    settings: &Settings,
) -> Vec<Value> {
    const REGIONAL_STS: &str = "AWS_STS_REGIONAL_ENDPOINTS";
    const REGIONS: [&str; 2] = ["AWS_DEFAULT_REGION", "AWS_REGION"];
    let mut added = Vec::new();
    if regional_sts && present(container, &[REGIONAL_STS]).is_empty() {
        added.push((REGIONAL_STS, "regional".to_owned()));
    }
    // One that is there says all: two regions that differ would leave it to the SDK which one counts.
    if let Some(region) = settings.region.as_ref().filter(|_| present(container, &REGIONS).is_empty()) {
        added.extend(REGIONS.map(|name| (name, region.clone())));
    }
    added.extend(variables);
    added.into_iter().map(|(name, value)| json!({"name": name, "value": literal(&value)})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_known_by_its_address_on_whichever_port_and_nobody_else_passes_for_it() {
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
            assert_eq!(is_of_agent(uri), expected, "{uri}");
        }
    }
}
