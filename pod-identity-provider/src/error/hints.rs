//! Fixes for errors of credentials endpoints.

use std::net::IpAddr;

use pod_identity_core::error::ErrorCode;

use super::failure::{EndpointRefusal, Failure};

const FIX_OTHER_SERVER: &str =
    "Check the URI: the program that answers there is no credentials endpoint. It may be a proxy";

/// Returns the fix, if it is known. The fixes for agents of EKS Pod Identity are more specific than those for other
/// endpoints with the same protocol.
pub(super) fn of(failure: &Failure, endpoint: &str) -> Option<&'static str> {
    let is_eks = is_eks_agent(endpoint);
    Some(match failure {
        Failure::Dns { .. } => {
            "Check the name and the pod's DNS, or use the agent's address: http://169.254.170.23/v1/credentials"
        }
        Failure::ConnectionRefused if is_eks => {
            "Start the agent on this node: check that its DaemonSet tolerates the node's taints and that its pod there is \
             ready"
        }
        Failure::ConnectionRefused => {
            "Start the program that serves credentials at this address. On your own machine that is `pod-identity-local run`"
        }
        Failure::NoRoute { .. } if is_eks => {
            "Install the agent on this node, use the URI for the pod's IP family (IPv4 or IPv6), and allow the agent's address \
             in network policies"
        }
        Failure::ConnectTimeout { .. } if is_eks => {
            "Install the agent on this node, and allow its address in network policies"
        }
        Failure::NoRoute { .. } | Failure::ConnectTimeout { .. } => {
            "Check that this program's network has a route to the address"
        }
        Failure::ResponseTimeout { .. } if is_eks => {
            "The agent is slow. Check its log for slow calls of EKS Auth or of its auth service, and check its CPU limit"
        }
        Failure::ResponseTimeout { .. } => "The program at this address is slow. Check its log",
        Failure::Tls { .. } => {
            "Use a certificate that is valid today, names the URI's host, and is signed by a CA that the system or the file \
             of SSL_CERT_FILE trusts"
        }
        Failure::Connection { .. } => "Check the log of the program at this address for restarts",
        Failure::Malformed { .. } => FIX_OTHER_SERVER,
        Failure::Refusal(refusal) => return of_refusal(refusal, is_eks),
    })
}

/// Returns whether the endpoint is an agent of EKS Pod Identity. True for the agent's addresses and for names over http,
/// whose addresses are checked. False for Amazon ECS and loopback addresses.
fn is_eks_agent(endpoint: &str) -> bool {
    let Some(authority) = endpoint.strip_prefix("http://") else { return false };
    let host = authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'))
        .map_or(authority, |(host, _)| host);
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => !address.is_loopback() && host != "169.254.170.2",
        Err(_) => host != "localhost",
    }
}

fn of_refusal(refusal: &EndpointRefusal, is_eks: bool) -> Option<&'static str> {
    if refusal.without_token && matches!(refusal.status, 400 | 401 | 403) {
        return Some(
            "The request had no token: set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE to the path of the pod's token, as the \
             webhook does, or set AWS_CONTAINER_AUTHORIZATION_TOKEN",
        );
    }
    if let Some(code) = refusal.code.as_deref().and_then(error_code) {
        return Some(code.fix());
    }
    match refusal.status {
        _ if refusal.is_markup => Some(
            "A proxy or another server answered with a page: check the URI, and add the address to NO_PROXY if a proxy is set",
        ),
        201..=299 => Some(FIX_OTHER_SERVER),
        300..=399 => Some(
            "Set the final URI: redirects are not followed, because they would send the token to another server",
        ),
        429 => Some(ErrorCode::Throttled.fix()),
        // The response of AWS's agent to a `Host` header that is not one of its addresses.
        403 if is_eks => {
            Some("Use the address http://169.254.170.23/v1/credentials: AWS's agent refuses other names")
        }
        404 if is_eks => Some(ErrorCode::NotFound.fix()),
        _ if is_eks => Some("Check the agent's log at this time"),
        404 => Some("Check the path of the URI"),
        _ => None,
    }
}

/// Parses a code of this project, of EKS Auth, or of STS for a refusal by a trust policy.
fn error_code(code: &str) -> Option<ErrorCode> {
    match code {
        "AccessDenied" => Some(ErrorCode::RoleTrustRefused),
        _ => code.parse().ok().or_else(|| ErrorCode::of_eks_auth(code)),
    }
}
