//! Flags of all programs for their listeners.

use super::Limits;

/// Limits for one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct LimitFlags {
    /// Maximum number of open connections of one IP address; four times as many for this machine's own addresses.
    /// Further connections are closed at once. Clients with a verified certificate are exempt.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections_per_peer.try_into().unwrap_or(u16::MAX),
          value_parser = clap::value_parser!(u16).range(1..))]
    max_connections_per_peer: u16,

    /// Maximum number of requests per second of one IP address; four times as many for this machine's own addresses.
    /// Further requests wait. 0 means no limit. Clients with a verified certificate are exempt.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().requests_per_peer)]
    max_requests_per_peer: u32,
}

impl LimitFlags {
    /// Returns the limits with the values of these flags.
    pub fn apply(self, limits: Limits) -> Limits {
        Limits {
            connections_per_peer: self.max_connections_per_peer.into(),
            requests_per_peer: self.max_requests_per_peer,
            ..limits
        }
    }
}
