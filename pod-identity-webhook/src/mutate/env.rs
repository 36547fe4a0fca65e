//! Environment variables: what a container has of them, and what it is given.

use serde_json::{Value, json};

use super::grant::Method;
use super::volume::{Token, Tokens};
use crate::pod::Container;
use crate::settings::Settings;

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
/// What SDKs look at before either: keys, and a profile's.
pub(super) const BEFORE_ALL: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"];

/// The addresses of the agent on every node, where AWS's webhook leads SDKs too.
const AGENT: [&str; 2] = ["http://169.254.170.23/", "http://[fd00:ec2::23]/"];

/// What a container has of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carried {
    Nothing,
    /// Both variables, and a mount of the service account's token, as this webhook and AWS's write them; and no
    /// other variable of the family.
    Whole,
    /// Something else: the user's own.
    Own(Vec<&'static str>),
}

/// What a container has of Pod Identity's variables.
pub(super) fn container_credentials(
    container: &Container<'_>,
    tokens: &Tokens<'_>,
    settings: &Settings,
) -> Carried {
    let leads_to_agent = |uri: &str| {
        uri == literal(&settings.full_uri)
            || uri.starts_with(&settings.roles_uri())
            || AGENT.iter().any(|agent| uri.starts_with(agent))
    };
    let whole = value(container, FULL_URI).is_some_and(leads_to_agent)
        && [&tokens.pod_identity, &tokens.web_identity]
            .into_iter()
            .any(|token| leads_to_token(container, TOKEN_FILE, token));
    let breaking = present(container, &BREAKS);
    match breaking.is_empty() {
        false if whole => Carried::Own(breaking),
        _ => carried(container, &CONTAINER_CREDENTIALS, whole),
    }
}

/// Which way it is for which a container has Pod Identity's variables.
pub(super) fn method_of_agent(container: &Container<'_>, settings: &Settings) -> Method {
    let asks_for_a_role = |uri: &str| uri.starts_with(&settings.roles_uri());
    match value(container, FULL_URI) {
        Some(uri) if asks_for_a_role(uri) => Method::ThroughAgent,
        _ => Method::PodIdentity,
    }
}

/// What a container has of IRSA's variables.
pub(super) fn web_identity(container: &Container<'_>, tokens: &Tokens<'_>) -> Carried {
    let whole = container.variable(ROLE_ARN).is_some()
        && leads_to_token(container, WEB_IDENTITY_TOKEN_FILE, &tokens.web_identity);
    carried(container, &WEB_IDENTITY, whole)
}

/// The way by which a container has come to credentials as a whole, whoever injected it; nothing where it sets
/// variables of another way beside.
pub(super) fn whole(container: &Container<'_>, tokens: &Tokens<'_>, settings: &Settings) -> Option<Method> {
    let families = (container_credentials(container, tokens, settings), web_identity(container, tokens));
    match families {
        (Carried::Whole, Carried::Nothing) => Some(method_of_agent(container, settings)),
        (Carried::Nothing, Carried::Whole) => Some(Method::WebIdentity),
        _ => None,
    }
}

fn carried(container: &Container<'_>, family: &[&'static str], whole: bool) -> Carried {
    let own = present(container, family);
    match own.is_empty() {
        _ if whole => Carried::Whole,
        true => Carried::Nothing,
        false => Carried::Own(own),
    }
}

fn leads_to_token(container: &Container<'_>, variable: &str, token: &Token<'_>) -> bool {
    // AWS's webhook does not look at spec.os: what it injects may have the other form.
    let file = |windows: &bool| literal(&token.projection.token_file(*windows));
    let leads = |path: &str| [false, true].iter().any(|windows| path == file(windows));
    value(container, variable).is_some_and(leads) && token.is_carried(container)
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
    pair: [(&'static str, String); 2],
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
    added.extend(pair);
    added.into_iter().map(|(name, value)| json!({"name": name, "value": literal(&value)})).collect()
}

/// A value that kubelet leaves as it is. It replaces `$(NAME)` by another variable's value, and `$$` by `$`: a
/// role's name from an annotation is not to bring a container's secret to STS.
pub(super) fn literal(value: &str) -> String {
    value.replace('$', "$$")
}
