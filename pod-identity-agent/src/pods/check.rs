//! The check of a pod, before it gets credentials.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use kube::Client;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::identity::{Node, NodeName, WorkloadIdentity};
use pod_identity_core::service::{BoxFuture, CredentialError, Peer, PodCheck};
use pod_identity_runtime::clock;

use super::lookup::{Found, Lookup};
use super::page;
use super::table::{Known, Table};
use crate::config::PodsConfig;

/// The check of pods. Clones share the table.
#[derive(Debug, Clone)]
pub struct Pods(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: Option<NodeName>,
    bind_address: bool,
    table: RwLock<Table>,
    /// `None` without a watch.
    lookup: Option<Lookup>,
}

impl Pods {
    /// Makes the check. `client` is the client of the API server if pods are watched.
    pub fn new(config: &PodsConfig, client: Option<Client>) -> Self {
        let table = RwLock::new(Table::new(clock::now()));
        let lookup = client.map(Lookup::new);
        Self(Arc::new(Inner { node: config.node.clone(), bind_address: config.bind_address, table, lookup }))
    }

    /// Returns the reads of pods, if pods are watched.
    pub(super) fn lookup(&self) -> Option<&Lookup> {
        self.0.lookup.as_ref()
    }

    /// Returns the JSON of `/debug/pods`.
    pub fn page(&self) -> Vec<u8> {
        self.read(page::json)
    }

    /// Checks the address of a request, and remembers the request. `peer` is the peer of `address`.
    ///
    /// # Errors
    /// [`CredentialError`] if the pod is known to have other addresses.
    pub fn served(
        &self,
        pod: &WorkloadIdentity,
        address: IpAddr,
        peer: impl FnOnce() -> Peer,
    ) -> Result<(), CredentialError> {
        if self.0.lookup.is_none() {
            return Ok(());
        }
        self.read(|table| {
            let Some(known) = table.get(&pod.pod.uid) else { return Ok(()) };
            if self.0.bind_address && !known.has_address(address.to_canonical(), peer) {
                let message = format!(
                    "the request comes from {address}, and pod {}/{} has {}",
                    pod.namespace,
                    pod.pod.name,
                    known.addresses_text()
                );
                return Err(CredentialError::new(ErrorCode::PodAddressMismatch, message));
            }
            known.requested(clock::now());
            Ok(())
        })
    }

    /// Remembers the error of a request from an address, for `/debug/pods`.
    pub fn refused(&self, address: IpAddr, code: ErrorCode) {
        if self.0.lookup.is_some() {
            self.read(|table| table.refused(address.to_canonical(), code, clock::now()));
        }
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Table) -> T) -> T {
        read(&self.0.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn write<T>(&self, write: impl FnOnce(&mut Table) -> T) -> T {
        write(&mut self.0.table.write().unwrap_or_else(PoisonError::into_inner))
    }

    async fn check_pod(&self, pod: &WorkloadIdentity, node: Option<&Node>) -> Result<(), CredentialError> {
        if let (Some(own), Some(claimed)) = (&self.0.node, node)
            && *own != claimed.name
        {
            let message = format!("the token's node is {}, and this node is {own}", claimed.name);
            return Err(CredentialError::new(ErrorCode::NodeMismatch, message));
        }
        let Some(lookup) = &self.0.lookup else { return Ok(()) };
        match self.read(|table| table.find(&pod.pod.uid)) {
            Known::Running => return Ok(()),
            Known::Deleted => return Err(deleted(pod)),
            Known::Not => {}
        }
        let found = lookup.find(pod, || self.read(|table| table.find(&pod.pod.uid))).await;
        match found {
            Found::Running(known) => {
                if let Some(known) = known {
                    self.write(|table| table.add(pod.pod.uid.clone(), *known));
                }
                Ok(())
            }
            Found::Deleted => {
                self.write(|table| table.deleted(&pod.pod.uid));
                Err(deleted(pod))
            }
            Found::Unknown => Ok(()),
        }
    }
}

impl PodCheck for Pods {
    fn check<'a>(
        &'a self,
        pod: &'a WorkloadIdentity,
        node: Option<&'a Node>,
    ) -> BoxFuture<'a, Result<(), CredentialError>> {
        Box::pin(self.check_pod(pod, node))
    }
}

fn deleted(pod: &WorkloadIdentity) -> CredentialError {
    let (namespace, name, uid) = (&pod.namespace, &pod.pod.name, &pod.pod.uid);
    let message = format!("pod {namespace}/{name} with UID {uid} no longer exists");
    CredentialError::new(ErrorCode::PodDeleted, message)
}
