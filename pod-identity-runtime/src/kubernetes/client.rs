//! The client of the API server.

use std::path::PathBuf;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderValue, Uri};
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::cause::chain;

/// Maximum time for a connection. Callers give up earlier where their own requests have deadlines.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time without a byte on a connection: longer than a watch request without events.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// The API server's address. Without either field it is that of a pod's own cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiServer {
    /// A kubeconfig file: `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// A URL, which overrides the one in the file: `--kube-api`.
    pub url: Option<String>,
}

/// The reason for which there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The program does not run in a pod, or the pod has no token.
    #[error(
        "the API server cannot be found: {}. In a pod, mount the service account's token \
         (automountServiceAccountToken); elsewhere give --kubeconfig", chain(.0)
    )]
    NotInCluster(InClusterError),
    /// The kubeconfig file cannot be used.
    #[error("--kubeconfig {}: {}", .path.display(), chain(.reason))]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: KubeconfigError,
    },
    /// The value of `--kube-api` is not a URL.
    #[error("--kube-api {url:?} is not a URL: {reason}")]
    Url {
        /// The value.
        url: String,
        /// The fault.
        reason: String,
    },
    /// Certificates or credentials cannot be used.
    #[error("the client of the API server cannot be made: {}", chain(.0))]
    Setup(kube::Error),
}

/// Makes a client, which sends `user_agent` for the API server's audit log. It connects at its first call, keeps
/// connections, and reads the token's file again when kubelet replaces it. It does not repeat failed calls.
///
/// # Errors
/// [`ClientError`], which names the fix.
pub async fn client(api_server: &ApiServer, user_agent: &'static str) -> Result<Client, ClientError> {
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
        // As in Go's clients: a proxy at that address, such as kubectl proxy, authenticates.
        (None, Some(address)) => Config::new(url(address)?),
        (None, None) => Config::incluster().map_err(ClientError::NotInCluster)?,
    };
    if let Some(address) = &api_server.url {
        config.cluster_url = url(address)?;
    }
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    // A connection from the pool has been silent before.
    config.reset_reader_on_write = true;
    // Callers have deadlines of about a second, and other sources.
    config.default_retry = false;
    config.headers.push((USER_AGENT, HeaderValue::from_static(user_agent)));
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
        match client(&api_server, "test").await {
            Ok(_) => panic!("{api_server:?} was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn errors_name_the_fault_and_the_fix() {
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
    async fn url_alone_is_enough() {
        let url = Some("http://127.0.0.1:8001".to_owned());
        assert!(client(&ApiServer { kubeconfig: None, url }, "test").await.is_ok());
    }
}
