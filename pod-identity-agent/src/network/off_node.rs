//! Requests from outside the node.
//!
//! A node answers for the agent's addresses on each of its links, so neighbours on the same layer 2 reach the agent
//! unless a firewall stops them. A neighbour that has stolen a pod token could then use it from its own machine.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::ValueEnum;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::service::CredentialError;
use pod_identity_runtime::logs::LogLimiter;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Routes;

/// The treatment of a request from outside the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OffNodeAction {
    /// Serves, logs a warning and counts.
    Warn,
    /// Answers 403 and counts.
    Refuse,
    /// Serves.
    Off,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabel {
    action: &'static str,
}

/// The check of each request's peer. For a known peer it costs one read of a map.
#[derive(Debug)]
pub struct OffNode {
    action: OffNodeAction,
    routes: Arc<Routes>,
    limiter: LogLimiter,
    requests: Family<ActionLabel, Counter>,
}

impl OffNode {
    /// Makes the check. Warnings are limited by `limiter`.
    pub fn new(action: OffNodeAction, routes: Arc<Routes>, limiter: LogLimiter) -> Self {
        Self { action, routes, limiter, requests: Family::default() }
    }

    /// Registers `pod_identity_agent_off_node_requests_total`.
    pub fn register(&self, registry: &mut Registry) {
        for action in ["warned", "refused"] {
            drop(self.requests.get_or_create(&ActionLabel { action }));
        }
        registry.register(
            "pod_identity_agent_off_node_requests",
            "Requests of peers outside the node, by action: warned or refused",
            self.requests.clone(),
        );
    }

    /// Checks the peer of a request.
    ///
    /// # Errors
    /// With [`OffNodeAction::Refuse`], `off_node_peer` if the peer is outside the node.
    pub(crate) fn check(&self, peer: SocketAddr) -> Result<(), CredentialError> {
        if self.action == OffNodeAction::Off || !self.routes.is_off_node(peer) {
            return Ok(());
        }
        let ip = peer.ip().to_canonical();
        if self.action == OffNodeAction::Refuse {
            self.requests.get_or_create(&ActionLabel { action: "refused" }).inc();
            let message = format!(
                "the peer {ip} is not on this node: the route to it leaves by a device with a default route"
            );
            return Err(CredentialError::new(ErrorCode::OffNodePeer, message));
        }
        self.requests.get_or_create(&ActionLabel { action: "warned" }).inc();
        let code = ErrorCode::OffNodePeer.as_str();
        self.limiter.log(ip, code, |suppressed| {
            tracing::warn!(
                %peer, code, suppressed,
                "request from outside the node served: the route to the peer leaves by a device with a default \
                 route. If no pod of this node has this address, set --off-node=refuse"
            );
        });
        Ok(())
    }
}
