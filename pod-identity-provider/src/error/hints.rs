//! What to do about an endpoint that returns no credentials.

use std::net::IpAddr;

use pod_identity_core::error::ErrorCode;

use super::failure::{Failure, Refusal};

const OTHER_PROGRAM: &str = "Check the URI: another program than the one that gives credentials answers there, or a \
                             proxy on the way does";

/// Returns what to do, where that is known. About the agents of EKS Pod Identity more is known than about other programs
/// that speak their protocol.
pub(super) fn of(failure: &Failure, endpoint: &str) -> Option<&'static str> {
    let of_eks = is_of_eks(endpoint);
    Some(match failure {
        Failure::Unresolved { .. } => {
            "Check the name and the pod's DNS, or use the agent's address: http://169.254.170.23/v1/credentials"
        }
        Failure::Refused if of_eks => {
            "Start the agent on this node: check that its DaemonSet tolerates the node's taints and that its pod there is \
             ready"
        }
        Failure::Refused => {
            "Start the program that gives credentials at this address; on your own machine that is `pod-identity-local run`"
        }
        Failure::NoRoute { .. } if of_eks => {
            "Install the agent on this node, use the URI of the pod's IP family (IPv4 or IPv6), and let network policies \
             allow the agent's address"
        }
        Failure::NotConnected { .. } if of_eks => {
            "Install the agent on this node, and let network policies allow its address"
        }
        Failure::NoRoute { .. } | Failure::NotConnected { .. } => {
            "Check that this program's network has a route to that address"
        }
        Failure::TimedOut { .. } if of_eks => {
            "The agent is slow: see its log for calls of EKS Auth or of its auth service, and check its CPU limit"
        }
        Failure::TimedOut { .. } => "The program there is slow: see its log",
        Failure::Insecure { .. } => {
            "Use a certificate that is valid today, names the URI's host, and is signed by a CA that the system or the file \
             of SSL_CERT_FILE trusts"
        }
        Failure::Broken { .. } => "Check whether the program there restarts: see its log",
        Failure::Malformed { .. } => OTHER_PROGRAM,
        Failure::Answer(refusal) => return of_refusal(refusal, of_eks),
    })
}

/// Whether the endpoint is an agent of EKS Pod Identity: one of its addresses, or a name over http, which must resolve
/// to allowed addresses. Amazon ECS and loopback addresses are not.
fn is_of_eks(endpoint: &str) -> bool {
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

fn of_refusal(refusal: &Refusal, of_eks: bool) -> Option<&'static str> {
    if refusal.without_token && matches!(refusal.status, 400 | 401 | 403) {
        return Some(
            "The request had no token: set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE to the path of the pod's token (the \
             webhook does), or AWS_CONTAINER_AUTHORIZATION_TOKEN",
        );
    }
    if let Some(code) = refusal.code.as_deref().and_then(known) {
        return Some(code.fix());
    }
    match refusal.status {
        _ if refusal.page => Some(
            "A proxy or another server answered with a page: add the address to NO_PROXY where a proxy is set, and check the \
             URI",
        ),
        201..=299 => Some(OTHER_PROGRAM),
        300..=399 => {
            Some("Use the URI itself: redirects are not followed, because the token would be sent there too")
        }
        429 => Some(ErrorCode::Throttled.fix()),
        // AWS's agent answers so to a `Host` that is not one of its addresses.
        403 if of_eks => {
            Some("Use the address http://169.254.170.23/v1/credentials: AWS's agent refuses other names")
        }
        404 if of_eks => Some(ErrorCode::NotFound.fix()),
        _ if of_eks => Some("See the agent's log for this moment"),
        404 => Some("Check the path of the URI"),
        _ => None,
    }
}

/// The meaning of a code: one of this project, one of EKS Auth as this project's agent reads it, or STS's code for a
/// refusal by a trust policy.
fn known(code: &str) -> Option<ErrorCode> {
    match code {
        "AccessDenied" => Some(ErrorCode::RoleTrustRefused),
        _ => code.parse().ok().or_else(|| ErrorCode::of_eks_auth(code)),
    }
}
