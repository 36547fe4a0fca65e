//! The listeners of the agent's addresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pod_identity_runtime::listener::{Connections, Handler, Listener};
use pod_identity_runtime::shutdown::Shutdown;
use tokio::task::JoinSet;

use super::{Addresses, BindError, capability};

/// Time between two attempts to bind the missing addresses, if no notification comes.
const RETRY: Duration = Duration::from_secs(5);

/// The listeners of the addresses that the node has. The others are bound when they appear.
#[derive(Debug)]
pub struct AddressListeners {
    bound: Vec<Listener>,
    missing: Vec<BindError>,
    connections: Connections,
    addresses: Addresses,
}

impl AddressListeners {
    /// Binds the addresses that the node has.
    ///
    /// # Errors
    /// [`BindError`] if the node has none of the addresses, or if one cannot be bound for another reason. Pods would
    /// send their tokens to the program that uses the address, so a warning is not enough.
    pub async fn bind(
        listen: &[SocketAddr],
        connections: &Connections,
        addresses: &Addresses,
    ) -> Result<Self, BindError> {
        let (mut bound, mut missing) = (Vec::new(), Vec::new());
        for address in listen {
            match Listener::bind(*address).await {
                Ok(listener) => {
                    addresses.listens(address.ip());
                    bound.push(listener.with_connections(connections.clone()));
                }
                Err(error) => missing.push(BindError::new(*address, error)),
            }
        }
        if let Some(fatal) = missing.iter().position(|error| bound.is_empty() || !error.cause.is_missing()) {
            return Err(missing.swap_remove(fatal));
        }
        for error in &missing {
            tracing::warn!(%error, "address not bound; no credentials are served on it until the node has it");
        }
        Ok(Self { bound, missing, connections: connections.clone(), addresses: addresses.clone() })
    }

    /// Returns the bound addresses.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().filter_map(|listener| listener.address().ok()).collect()
    }

    /// Serves until the shutdown, and binds the missing addresses when they appear.
    pub async fn serve(self, handler: Arc<impl Handler>, mut shutdown: Shutdown) {
        let Self { bound, mut missing, connections, addresses } = self;
        let mut serving = JoinSet::new();
        for listener in bound {
            serving.spawn(listener.serve(handler.clone(), shutdown.clone()));
        }
        while !missing.is_empty() {
            tokio::select! {
                () = shutdown.asked() => break,
                () = addresses.appeared() => {}
                () = tokio::time::sleep(RETRY) => {}
            }
            let mut still_missing = Vec::new();
            for earlier in missing {
                match Listener::bind(earlier.address).await {
                    Ok(listener) => {
                        addresses.listens(earlier.address.ip());
                        tracing::info!(address = %earlier.address, "serving credentials on a further address");
                        let listener = listener.with_connections(connections.clone());
                        serving.spawn(listener.serve(handler.clone(), shutdown.clone()));
                    }
                    Err(error) => {
                        let error = BindError::new(earlier.address, error);
                        if error.to_string() != earlier.to_string() {
                            tracing::error!(%error, "address still not bound");
                        }
                        still_missing.push(error);
                    }
                }
            }
            missing = still_missing;
        }
        capability::drop_raised();
        serving.join_all().await;
    }
}
