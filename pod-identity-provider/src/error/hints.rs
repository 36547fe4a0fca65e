//! What to do about an endpoint that gives no credentials.

use std::net::IpAddr;

use pod_identity_core::error::ErrorCode;

use super::Failure;

const OTHER_PROGRAM: &str =
    "Does another program than the one that gives credentials answer at this address, or a proxy on the way?";

/// What to do, where that is known. Of the agents of EKS Pod Identity more is known than of whatever else speaks their
/// protocol.
pub(super) fn of(failure: &Failure, endpoint: &str) -> Option<&'static str> {
    let of_eks = is_of_eks(endpoint);
    Some(match failure {
        Failure::Unresolved { .. } => {
            "Check the name and the pod's DNS, or name the agent by its address: http://169.254.170.23/v1/credentials"
        }
        Failure::Refused if of_eks => {
            "Is the agent running on this node, and ready? A DaemonSet has a pod on each node that its tolerations and \
             affinity allow"
        }
        Failure::Refused => "Is the program running that gives credentials at this address?",
        Failure::NoRoute { .. } if of_eks => {
            "The address is that of the agent on the same node: is the agent installed there, does the pod have IPv4 or \
             IPv6 as the address needs, and does no network policy keep the pod from it?"
        }
        Failure::NotConnected { .. } if of_eks => {
            "Does a network policy keep the pod from the agent's address, or is the agent not installed on this node?"
        }
        Failure::NoRoute { .. } | Failure::NotConnected { .. } => {
            "Does this program's network have a way to that address?"
        }
        Failure::TimedOut { .. } if of_eks => {
            "The agent is there but slow: its log says whether it waits for EKS Auth or its auth service, and whether it \
             has too little CPU"
        }
        Failure::TimedOut { .. } => "The program there is slow: its log may say why",
        Failure::Insecure { .. } => {
            "Its certificate has to hold today, name the URI's host, and be of a CA that the system trusts, or that stands \
             in the file that SSL_CERT_FILE names"
        }
        Failure::Broken { .. } => "Does the program there restart? Its log says why",
        Failure::Malformed { .. } => OTHER_PROGRAM,
        Failure::Answer { status, code, page, .. } => {
            return of_answer(*status, code.as_deref(), *page, of_eks);
        }
    })
}

/// Whether an agent of EKS Pod Identity is asked there: at its addresses, or by a name over http, whose addresses are
/// among those that may be asked. Not at Amazon ECS's, nor at one of this machine's own.
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

fn of_answer(status: u16, code: Option<&str>, page: bool, of_eks: bool) -> Option<&'static str> {
    if let Some(code) = code.and_then(known) {
        return Some(code.fix());
    }
    match status {
        _ if page => Some(
            "That is a page for people: a proxy or another server answered. Take the addresses of credentials out of what \
             is proxied, and check the URI",
        ),
        201..=299 => Some(OTHER_PROGRAM),
        300..=399 => Some("Redirects are not followed, since the token would go along: give the URI itself"),
        429 => Some(ErrorCode::Throttled.fix()),
        // AWS's agent answers so to a `Host` that is none of its own addresses.
        403 if of_eks => Some(
            "Ask AWS's agent by its own address, http://169.254.170.23/v1/credentials: it refuses other names for itself",
        ),
        404 if of_eks => Some(ErrorCode::NotFound.fix()),
        _ if of_eks => Some("The agent's log of this moment says why"),
        404 => Some("Check the path of the URI"),
        _ => None,
    }
}

/// What a code means: this project's by themselves, AWS's as this project's agent reads them, and that of STS with which
/// a trust policy refuses, as its auth service does.
fn known(code: &str) -> Option<ErrorCode> {
    match code {
        "AccessDenied" => Some(ErrorCode::RoleTrustRefused),
        _ => code.parse().ok().or_else(|| ErrorCode::of_eks_auth(code)),
    }
}
