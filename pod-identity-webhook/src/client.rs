//! The client of the API server.

use std::path::PathBuf;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderValue, Uri};
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use pod_identity_runtime::cause::chain;

use crate::config::ApiServer;

/// How long a connection may take to be made. A read for a review gives up earlier, by itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the API server may be silent on a connection: longer than a watch request, which may be.
const SILENCE: Duration = Duration::from_secs(90);

/// The name that the API server's audit log shows.
const NAME: &str = concat!("pod-identity-webhook/", env!("CARGO_PKG_VERSION"));

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It does not run in a pod, or the pod has no token.
    #[error(
        "the API server cannot be found: {}. In a pod, its service account's token must be mounted \
         (automountServiceAccountToken); elsewhere give --kubeconfig", chain(.0)
    )]
    NotInCluster(InClusterError),
    /// The kubeconfig file cannot be used.
    #[error("--kubeconfig {}: {}", .path.display(), chain(.reason))]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: KubeconfigError,
    },
    /// The URL is none.
    #[error("--kube-api {url:?} is not a URL: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificates or credentials that cannot be used.
    #[error("the client of the API server cannot be made: {}", chain(.0))]
    Setup(kube::Error),
}

/// Makes the client. It connects when it is used, keeps connections, and follows the token's file, which
/// kubelet writes anew every hour or so.
///
/// # Errors
/// [`ClientError`], which names the fix.
pub async fn client(api_server: &ApiServer) -> Result<Client, ClientError> {
    let url = |url: &String| {
        let wrong = |reason: String| ClientError::Url { url: url.clone(), reason };
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
        match uri.scheme_str() {
            Some("http" | "https") if uri.host().is_some() => Ok(uri),
            _ => Err(wrong("it begins with neither http:// nor https://".to_owned())),
        }
    };
    let mut config = match (&api_server.kubeconfig, &api_server.url) {
        (Some(path), _) => {
            kubeconfig(path).await.map_err(|reason| ClientError::Kubeconfig { path: path.clone(), reason })?
        }
        // As for Go's clients: somebody in between, such as kubectl proxy, says who asks.
        (None, Some(address)) => Config::new(url(address)?),
        (None, None) => Config::incluster().map_err(ClientError::NotInCluster)?,
    };
    if let Some(address) = &api_server.url {
        config.cluster_url = url(address)?;
    }
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(SILENCE);
    // A connection that is taken from the pool has been silent before.
    config.reset_reader_on_write = true;
    // A review has one second: what fails is answered by the watch, and not asked again.
    config.default_retry = false;
    config.headers.push((USER_AGENT, HeaderValue::from_static(NAME)));
    Client::try_from(config).map_err(ClientError::Setup)
}

async fn kubeconfig(path: &PathBuf) -> Result<Config, KubeconfigError> {
    let file = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(kubeconfig: Option<&str>, url: Option<&str>) -> String {
        let api_server = ApiServer { kubeconfig: kubeconfig.map(PathBuf::from), url: url.map(str::to_owned) };
        match client(&api_server).await {
            Ok(_) => panic!("{api_server:?} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_named_with_the_fix() {
        let nothing = refused(None, None).await;
        assert!(nothing.contains("--kubeconfig") && nothing.contains("automount"), "{nothing}");
        let no_file = refused(Some("/no/such/file"), None).await;
        assert!(
            no_file.contains("--kubeconfig /no/such/file") && no_file.contains("No such file"),
            "{no_file}"
        );
        for url in ["", "api.example.com", "ftp://api.example.com", "https://"] {
            let error = refused(None, Some(url)).await;
            assert!(error.contains("--kube-api"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_url_is_enough() {
        let url = Some("http://127.0.0.1:8001".to_owned());
        assert!(client(&ApiServer { kubeconfig: None, url }).await.is_ok());
    }
}
