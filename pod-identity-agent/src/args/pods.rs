//! The flags about the Kubernetes API and the node's pods.

use std::path::PathBuf;

use clap::Args;
use pod_identity_core::identity::NodeName;
use pod_identity_runtime::kubernetes::ApiServer;

use crate::config::{ConfigError, PodsConfig};

/// The flags of `server` about the Kubernetes API and the node's pods.
#[derive(Debug, Clone, Args)]
pub struct PodFlags {
    /// The name of this node. A token whose node claim names another node is refused.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_name: Option<NodeName>,

    /// Watch the pods of --node-name. The tokens of deleted pods are then refused within seconds. It needs the RBAC
    /// right to list, watch and get pods.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false)]
    pub watch_pods: bool,

    /// With --watch-pods: refuse a request from another address than those of the token's pod.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false)]
    pub bind_pod_ip: bool,

    /// A kubeconfig file for the API server. Default: the service account of the agent's own pod.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The URL of the API server, instead of the one in the kubeconfig file.
    #[arg(long, value_name = "URL")]
    pub kube_api: Option<String>,
}

impl PodFlags {
    /// Returns the API server of the flags.
    pub fn api_server(&self) -> ApiServer {
        ApiServer { kubeconfig: self.kubeconfig.clone(), url: self.kube_api.clone() }
    }

    /// Checks the flags.
    ///
    /// # Errors
    /// [`ConfigError`] if flags contradict each other.
    pub fn config(self) -> Result<PodsConfig, ConfigError> {
        if self.watch_pods && self.node_name.is_none() {
            return Err(ConfigError::WatchWithoutNode);
        }
        if self.bind_pod_ip && !self.watch_pods {
            return Err(ConfigError::BindWithoutWatch);
        }
        Ok(PodsConfig { node: self.node_name, watch: self.watch_pods, bind_address: self.bind_pod_ip })
    }
}
