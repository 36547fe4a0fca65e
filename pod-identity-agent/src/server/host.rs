//! The check of the `Host` header, against DNS rebinding: a web page whose name resolves to the agent's address is
//! refused.

use std::net::IpAddr;

use http::Request;
use http::header::HOST;
use http::uri::Authority;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::service::CredentialError;

/// Checks that the `Host` header, and the request target if it is an absolute URI, name an address that the agent
/// serves on.
pub(super) fn check<B>(request: &Request<B>, served: &[IpAddr]) -> Result<(), CredentialError> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let header = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    let named = header.is_some_and(|host| {
        is_bare_address(host, served) || host.parse().is_ok_and(|authority| names(&authority, served))
    });
    let target = request.uri().authority().is_none_or(|target| names(target, served));
    if named && target {
        return Ok(());
    }
    let list = served.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    Err(CredentialError::new(ErrorCode::HostRefused, format!("the Host header must name {list}")))
}

/// Whether this is a served IPv6 address without brackets, with or without a port. RFC 3986 §3.2.2 requires brackets,
/// but some clients omit them: Fluent Bit removes them and adds the port.
fn is_bare_address(host: &str, served: &[IpAddr]) -> bool {
    let is_served = |text: &str| text.parse().is_ok_and(|address| served.contains(&IpAddr::V6(address)));
    // An address with a port may also be a valid address without one. One served interpretation is enough.
    is_served(host)
        || host.rsplit_once(':').is_some_and(|(address, port)| is_port(port) && is_served(address))
}

/// Whether this is a port. `Authority` accepts any text after the colon.
fn is_port(text: &str) -> bool {
    text.bytes().all(|digit| digit.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn names(authority: &Authority, served: &[IpAddr]) -> bool {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let rest = authority.as_str().strip_prefix(authority.host());
    let plain = rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
    // RFC 6761 reserves this name, so it resolves to no other host.
    let localhost = host == "localhost" && served.iter().any(IpAddr::is_loopback);
    plain && (localhost || host.parse::<IpAddr>().is_ok_and(|address| served.contains(&address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(uri: &str, hosts: &[&str]) -> bool {
        let served = ["169.254.170.23".parse().unwrap(), "fd00:ec2::23".parse().unwrap()];
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        check(&request.body(()).unwrap(), &served).is_ok()
    }

    #[test]
    fn rejects_invalid_ports_after_a_served_address() {
        for host in [
            "169.254.170.23:aaaa",
            "169.254.170.23:99999",
            "169.254.170.23:+80",
            "169.254.170.23:80.evil.com",
            "169.254.170.23:",
            "[fd00:ec2::23]-",
            "user@169.254.170.23",
        ] {
            assert!(!passes("/v1/credentials", &[host]), "{host}");
        }
    }

    #[test]
    fn accepts_served_addresses_with_or_without_a_port() {
        for host in [
            "169.254.170.23",
            "169.254.170.23:80",
            "[fd00:ec2::23]",
            "[fd00:ec2::23]:80",
            "[fd00:ec2:0::23]",
            "fd00:ec2::23",
            "fd00:ec2::23:80",
            "fd00:ec2:0:0:0:0:0:23:8080",
        ] {
            assert!(passes("/v1/credentials", &[host]), "{host}");
        }
        assert!(passes("http://169.254.170.23/v1/credentials", &["169.254.170.23"]));
    }

    #[test]
    fn rejects_every_other_host() {
        for host in [
            "",
            "evil.example",
            "169.254.170.23.",
            "169.254.170.230",
            "localhost",
            "127.0.0.1",
            "a@169.254.170.23",
            "fd00:ec2::24",
            "fd00:ec2::24:80",
            "fd00:ec2::23:",
            "fd00:ec2::23:65536",
            "fd00:ec2::23:+80",
            "fd00:ec2::23:80:80",
            "fd00:ec2::23%eth0",
            "a@fd00:ec2::23",
        ] {
            assert!(!passes("/v1/credentials", &[host]), "{host:?}");
        }
        assert!(!passes("/v1/credentials", &[]));
        assert!(!passes("/v1/credentials", &["169.254.170.23", "169.254.170.23"]));
        assert!(!passes("http://evil.example/v1/credentials", &["169.254.170.23"]));
    }
}
