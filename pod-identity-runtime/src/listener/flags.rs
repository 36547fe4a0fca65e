//! The flags that every program has for its listener.

use super::Limits;

/// Flags that limit what one peer can use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct LimitFlags {
    /// Maximum number of open connections of one IP address; four times as many of this machine's own. Further ones are
    /// closed at once. Clients with a verified certificate do not count.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections_per_peer.try_into().unwrap_or(u16::MAX),
          value_parser = clap::value_parser!(u16).range(1..))]
    max_connections_per_peer: u16,

    /// Maximum number of requests per second of one IP address; four times as many of this machine's own. Further
    /// ones wait. 0: no limit. Clients with a verified certificate do not count.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().requests_per_peer)]
    max_requests_per_peer: u32,
}

impl LimitFlags {
    /// The limits with these flags' values in place of their own.
    pub fn apply(self, limits: Limits) -> Limits {
        Limits {
            connections_per_peer: self.max_connections_per_peer.into(),
            requests_per_peer: self.max_requests_per_peer,
            ..limits
        }
    }
}
