//! By what an identity is known to be a cell's.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;

use super::Reader;

/// The property of credentials by which an identity cache knows where they come from.
#[derive(Clone)]
pub(crate) struct Origin {
    reader: Weak<Reader>,
    serial: u64,
}

impl Origin {
    /// For the credentials that the next fetch brings.
    pub(super) fn of(reader: &Arc<Reader>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { reader: Arc::downgrade(reader), serial: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// Where an identity is to be found, if it was taken from a cell, and its serial number there.
    pub(crate) fn of_identity(identity: &Identity) -> Option<(Arc<Reader>, u64)> {
        let credentials: &Credentials = identity.data()?;
        let origin: &Self = credentials.get_property()?;
        let reader = origin.reader.upgrade()?;
        (!reader.differs(origin.serial, credentials)).then_some((reader, origin.serial))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pod-identity-provider")
    }
}
