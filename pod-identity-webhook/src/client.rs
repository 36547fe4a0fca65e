//! The client of the API server.

use kube::Client;
use pod_identity_runtime::kubernetes;
pub use pod_identity_runtime::kubernetes::ClientError;

use crate::config::ApiServer;

/// The program's name in the API server's audit log.
const USER_AGENT: &str = concat!("pod-identity-webhook/", env!("CARGO_PKG_VERSION"));

/// Makes the client. It connects at its first call.
///
/// # Errors
/// [`ClientError`], which names the fix.
pub async fn client(api_server: &ApiServer) -> Result<Client, ClientError> {
    kubernetes::client(api_server, USER_AGENT).await
}
