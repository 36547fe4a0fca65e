//! The expiry of the served certificate: a metric and a warning.

use std::time::UNIX_EPOCH;

use prometheus_client::registry::Registry;

use super::ServerTls;
use crate::clock::{self, rfc3339};
use crate::logs::FAULT_REPEAT;
use crate::metrics::register_gauge;
use crate::shutdown::Shutdown;

impl ServerTls {
    /// Registers a gauge of the expiry of the served certificate, in seconds since 1970. It is absent without a
    /// certificate. `name` is the full name of the metric.
    pub fn register_expiry(&self, registry: &mut Registry, name: &'static str) {
        let tls = self.clone();
        register_gauge(
            registry,
            name,
            "Time at which the served certificate expires, in seconds since 1970",
            move || Some(tls.validity()?.until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()),
        );
    }

    /// Warns once an hour while a certificate from files is not replaced in time, until the shutdown.
    pub async fn warn_when_overdue(&self, mut shutdown: Shutdown) {
        loop {
            if let Some(validity) = self.validity().filter(|validity| validity.is_overdue(clock::now())) {
                tracing::warn!(
                    expires = rfc3339(validity.until),
                    "five sixths of the lifetime of the certificate of --tls-cert are over: replace it before it expires"
                );
            }
            tokio::select! {
                () = shutdown.asked() => return,
                () = tokio::time::sleep(FAULT_REPEAT) => {}
            }
        }
    }
}
