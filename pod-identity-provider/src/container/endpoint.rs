//! The credentials URI and the addresses of requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws_smithy_runtime_api::client::dns::{ResolveDns as _, SharedDnsResolver};
use http::Uri;
use http::uri::Authority;

use super::attempt_error::AttemptError;
use crate::environment::{self as env, Environment};
use crate::error::{Error, Failure};

/// The host of a relative URI: the agent of Amazon ECS (*Amazon ECS developer guide*, *Task IAM role*).
const ECS_AGENT: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2));
/// The agent of EKS Pod Identity (*EKS user guide*, *Set up the Amazon EKS Pod Identity Agent*).
const EKS_AGENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// Returns whether the token may be sent to this address over plain HTTP. Only addresses on this machine are allowed (AWS
/// SDKs and Tools reference, *Container credential provider*). Otherwise a manipulated variable could send the token to any
/// host.
fn is_allowed(address: IpAddr) -> bool {
    address.is_loopback() || address == ECS_AGENT || EKS_AGENT.contains(&address)
}

const FIX_NOT_ALLOWED: &str = "Let the webhook set the variable, or use https. Over http only loopback, 169.254.170.2, \
                               169.254.170.23, [fd00:ec2::23] and names of these addresses are allowed";

/// A valid credentials URI.
pub(super) struct Endpoint {
    host: Host,
    authority: Authority,
    path_and_query: String,
}

enum Host {
    /// An address that is allowed over HTTP.
    Address(IpAddr),
    /// A name over HTTP. Each attempt resolves it and checks the addresses.
    Name(String),
    /// Any host over HTTPS, because the certificate proves its name.
    Https,
}

/// The destination of a request.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) uri: Uri,
    /// The `Host` header, if it differs from the URI's host.
    pub(super) host: Option<String>,
}

impl Endpoint {
    /// Returns the endpoint of the environment. The relative URI takes precedence over the full URI, as in AWS's SDKs except
    /// Go's.
    ///
    /// # Errors
    /// [`Error::InvalidConfiguration`] for a URI that is not allowed. The error does not contain the URI, because it is a
    /// secret on Amazon ECS.
    pub(super) fn of(environment: &Environment) -> Result<Self, Error> {
        match (environment.get(env::RELATIVE_URI), environment.get(env::FULL_URI)) {
            (Some(relative), full) => {
                if full.is_some() {
                    tracing::warn!(used = env::RELATIVE_URI, unused = env::FULL_URI, "two URIs are set");
                }
                Self::relative(relative).map_err(|reason| {
                    let hint = "Set it to a path that begins with one slash, or set AWS_CONTAINER_CREDENTIALS_FULL_URI \
                                to the whole URI";
                    Error::unusable(env::RELATIVE_URI, &reason, hint)
                })
            }
            (None, Some(full)) => Self::full(full).map_err(invalid_full_uri),
            (None, None) => Err(Error::not_configured(format!("{} or {}", env::FULL_URI, env::RELATIVE_URI))),
        }
    }

    fn relative(path: &str) -> Result<Self, String> {
        if !path.starts_with('/') {
            return Err("does not begin with a slash".to_owned());
        }
        if path.starts_with("//") {
            return Err("names a host".to_owned());
        }
        Ok(Self::full(&format!("http://{ECS_AGENT}{path}"))?)
    }

    fn full(text: &str) -> Result<Self, &'static str> {
        // The parser drops or rejects these parts without a reason.
        let (scheme, rest) = text.split_once("://").ok_or("has no scheme")?;
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return Err("has another scheme than http or https");
        }
        if rest.starts_with(['/', '?', '#', ':']) || rest.is_empty() {
            return Err("has no host");
        }
        if rest.contains('#') {
            return Err("has a fragment");
        }
        if rest.split(['/', '?']).next().is_some_and(|authority| authority.contains('@')) {
            return Err("has a user name in it");
        }
        let uri: Uri = text.parse().map_err(|_| "is not a URI")?;
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str() != authority.host() && authority.port_u16().is_none_or(|port| port == 0) {
            return Err("has an invalid port");
        }
        if authority.host().starts_with('[') && bracketed_ipv6(authority.host()).is_none() {
            return Err("has a host in brackets that is not an IPv6 address");
        }
        let host = if https { Host::Https } else { Host::http(authority.host())? };
        let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self { host, authority: authority.clone(), path_and_query: path_and_query.to_owned() })
    }

    /// Returns whether the host is an address of EKS Pod Identity's agent.
    pub(super) fn is_eks_agent(&self) -> bool {
        matches!(self.host, Host::Address(address) if EKS_AGENT.contains(&address))
    }

    pub(super) fn is_https(&self) -> bool {
        matches!(self.host, Host::Https)
    }

    /// Returns scheme, host and port, for errors and logs.
    pub(super) fn origin(&self) -> String {
        let scheme = if self.is_https() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }

    /// Returns the targets of a request, to be tried in order until one accepts a connection. A name is replaced by its
    /// checked addresses, because the name may have other addresses at the next lookup.
    pub(super) async fn targets(&self, dns: &SharedDnsResolver) -> Result<Vec<Target>, AttemptError> {
        match &self.host {
            Host::Https => Ok(vec![Target { uri: self.uri("https", self.authority.as_str())?, host: None }]),
            Host::Address(address) => Ok(vec![Target { uri: self.uri_at(*address)?, host: None }]),
            Host::Name(name) => {
                let mut addresses = dns.resolve_dns(name).await.map_err(|error| AttemptError::of(&error))?;
                if addresses.is_empty() {
                    return Err(Failure::Dns { reason: "it has no address".to_owned() }.into());
                }
                if let Some(other) = addresses.iter().find(|address| !is_allowed(**address)) {
                    return Err(
                        invalid_full_uri(&format!("names {name:?}, which has the address {other}")).into()
                    );
                }
                addresses.dedup(); // resolvers return each address once per socket type
                let host = Some(self.authority.to_string());
                let target = |address| Ok(Target { uri: self.uri_at(address)?, host: host.clone() });
                addresses.into_iter().map(target).collect()
            }
        }
    }

    fn uri_at(&self, address: IpAddr) -> Result<Uri, Error> {
        let port = self.authority.port_u16().map_or(String::new(), |port| format!(":{port}"));
        let authority = match address {
            IpAddr::V4(address) => format!("{address}{port}"),
            IpAddr::V6(address) => format!("[{address}]{port}"),
        };
        self.uri("http", &authority)
    }

    fn uri(&self, scheme: &str, authority: &str) -> Result<Uri, Error> {
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(&*self.path_and_query);
        uri.build().map_err(|_| invalid_full_uri("is not a URI"))
    }
}

impl Host {
    fn http(host: &str) -> Result<Self, &'static str> {
        match bracketed_ipv6(host).or_else(|| host.parse().ok()) {
            Some(address) if is_allowed(address) => Ok(Self::Address(address)),
            Some(_) => Err("names an address that is not allowed over http"),
            None => Ok(Self::Name(host.to_owned())),
        }
    }
}

/// Parses an IPv6 address in brackets (RFC 3986, section 3.2.2). Rejects a zone, as in `[fe80::1%25eth0]`, because neither
/// allowed addresses nor certificates have zones.
fn bracketed_ipv6(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6)
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Endpoint").field(&self.origin()).finish()
    }
}

fn invalid_full_uri(reason: &str) -> Error {
    Error::unusable(env::FULL_URI, reason, FIX_NOT_ALLOWED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(uri: &str) -> Result<String, &'static str> {
        Endpoint::full(uri).map(|endpoint| match endpoint.host {
            Host::Address(address) => endpoint.uri_at(address).unwrap().to_string(),
            Host::Name(name) => format!("name {name}"),
            Host::Https => endpoint.uri("https", endpoint.authority.as_str()).unwrap().to_string(),
        })
    }

    #[test]
    fn http_is_allowed_only_for_addresses_on_this_machine() {
        for (uri, expected) in [
            ("http://127.0.0.1/", "http://127.0.0.1/"),
            ("HTTP://127.8.9.1:8080/creds?a=b", "http://127.8.9.1:8080/creds?a=b"),
            ("http://[::1]:1338", "http://[::1]:1338/"),
            ("http://[0:0:0:0:0:0:0:1]/c", "http://[::1]/c"),
            ("http://169.254.170.2/c", "http://169.254.170.2/c"),
            ("http://169.254.170.23/v1/credentials", "http://169.254.170.23/v1/credentials"),
            ("http://[fd00:ec2::23]/v1/credentials", "http://[fd00:ec2::23]/v1/credentials"),
            ("http://[FD00:0EC2:0:0:0:0:0:0023]/c", "http://[fd00:ec2::23]/c"),
            ("http://localhost:80/c", "name localhost"),
            ("https://example.com/c", "https://example.com/c"),
            ("https://[2001:db8::1]:8443/c", "https://[2001:db8::1]:8443/c"),
        ] {
            assert_eq!(full(uri).as_deref(), Ok(expected), "{uri}");
        }
        for uri in [
            "http://169.254.169.254/latest/meta-data",
            "http://169.254.170.3/c",
            "http://10.0.0.1/c",
            "http://0.0.0.0/c",
            "http://[::]/c",
            "http://[::ffff:127.0.0.1]/c",
            "http://[fd00:ec2::254]/c",
        ] {
            assert_eq!(full(uri), Err("names an address that is not allowed over http"), "{uri}");
        }
    }

    #[test]
    fn error_describes_the_fault_of_the_uri() {
        for (uri, reason) in [
            ("ftp://127.0.0.1/c", "has another scheme than http or https"),
            ("file:///etc/passwd", "has another scheme than http or https"),
            ("/c", "has no scheme"),
            ("127.0.0.1", "has no scheme"),
            ("http:///c", "has no host"),
            ("http://", "has no host"),
            ("http://:80/c", "has no host"),
            ("http://?c", "has no host"),
            ("http://user:pass@127.0.0.1/c", "has a user name in it"),
            ("https://user@example.com/c", "has a user name in it"),
            ("http://127.0.0.1/c#top", "has a fragment"),
            ("http://127.0.0.1:99999/c", "has an invalid port"),
            ("http://127.0.0.1:0/c", "has an invalid port"),
            ("http://127.0.0.1/ c", "is not a URI"),
            ("http://[::1/c", "is not a URI"),
            ("http://[::1%25lo]/c", "has a host in brackets that is not an IPv6 address"),
            ("https://[fe80::1%25eth0]/c", "has a host in brackets that is not an IPv6 address"),
            ("https://[v1.x]/c", "has a host in brackets that is not an IPv6 address"),
            ("http://[127.0.0.1]/c", "has a host in brackets that is not an IPv6 address"),
            ("https://[localhost]:443/c", "has a host in brackets that is not an IPv6 address"),
        ] {
            assert_eq!(full(uri), Err(reason), "{uri}");
        }
    }

    #[test]
    fn relative_uri_cannot_change_the_host() {
        let full =
            |uri: &str| Endpoint::relative(uri).map(|endpoint| endpoint.origin() + &endpoint.path_and_query);
        assert_eq!(full("/v2/credentials?id=1").unwrap(), "http://169.254.170.2/v2/credentials?id=1");
        assert_eq!(full("/@example.com/c").unwrap(), "http://169.254.170.2/@example.com/c");
        assert_eq!(full("//example.com/c").unwrap_err(), "names a host");
        for uri in
            ["example.com/c", "@example.com/c", ".example.com/c", ":80/c", "http://example.com/c", " /c"]
        {
            assert_eq!(full(uri).unwrap_err(), "does not begin with a slash", "{uri}");
        }
    }
}
