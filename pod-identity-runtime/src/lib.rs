//! The parts that all pod-identity binaries share.
//!
//! Incoming: [`listener`] accepts plain or [`tls`] connections and drains them. [`http`] reads bodies and writes JSON.
//! [`admin`] serves health, readiness and metrics. Outgoing: [`outbound`] is the HTTP client of the AWS SDK and of
//! [`issuer_keys`]. Process: [`shutdown`], [`tasks`], [`logs`], [`files`] that are read again when they change, and
//! [`clock`]. [`cause`] formats errors in one line, and [`association_file`] parses the file that several binaries
//! read.

pub mod admin;
pub mod association_file;
pub mod cause;
#[cfg(feature = "certificate")]
pub mod certificate;
pub mod clock;
pub mod files;
pub mod http;
#[cfg(feature = "outbound")]
pub mod issuer_keys;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod listener;
pub mod logs;
pub mod metrics;
#[cfg(feature = "outbound")]
pub mod outbound;
pub mod process;
pub mod shutdown;
pub mod tasks;
pub mod tls;
