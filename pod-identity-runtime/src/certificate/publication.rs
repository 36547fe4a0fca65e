//! The place where clients find the authorities that they trust.

use std::fmt;

use futures_util::stream::BoxStream;

use super::bundle::Bundle;
use super::failure::CertificateFailure;

/// The place where clients find the authorities that they trust: an object of the API server with one or more bundles.
///
/// The controller reads the bundles before the Secret, and writes them at the version that it read.
pub trait Publication: fmt::Debug + Send + Sync + 'static {
    /// Reads the bundles from etcd: without a resource version, so that the API server does not answer from its cache.
    ///
    /// If the object has no bundle that belongs to the program, there are none, and no certificate is settled. A
    /// publication that creates its object returns one empty bundle until then.
    ///
    /// # Errors
    /// [`CertificateFailure::Call`].
    fn read(&self) -> impl Future<Output = Result<Bundles, CertificateFailure>> + Send;

    /// Writes the bundles, if the object still has their version.
    ///
    /// # Errors
    /// [`CertificateFailure::Conflict`] if the object has changed, otherwise [`CertificateFailure::Call`].
    fn write(&self, bundles: &Bundles) -> impl Future<Output = Result<(), CertificateFailure>> + Send;

    /// Returns a stream with an item after each change of the object. The controller also reads every few seconds.
    fn changes(&self) -> BoxStream<'static, ()>;

    /// Returns the text that `/readyz` shows while there is no bundle: the object that is missing, and the fix.
    fn missing(&self) -> String;
}

/// The bundles of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundles {
    /// The object's resource version; `None` if it does not exist.
    pub version: Option<String>,
    /// The program's bundles.
    pub bundles: Vec<Bundle>,
}
