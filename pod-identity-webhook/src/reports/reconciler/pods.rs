//! The pods that there are, read page by page as the JSON that the API server writes.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use kube::Api;
use kube::api::ListParams;
use kube::core::Request;
use pod_identity_core::identity::{Namespace, ServiceAccount};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::account::NamespaceSettings;

/// Pods, or namespaces, to a page. A pod's JSON may have some hundred kilobytes, mostly it has ten.
const PAGE: u32 = 100;
/// Pods that have ended need nothing any more.
const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// The pods of the cluster.
#[derive(Clone)]
pub(super) struct Pods {
    client: kube::Client,
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pods")
    }
}

/// Why pods could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PodsError {
    /// The API server did not answer, or refused.
    #[error("{what} cannot be listed: {error}; the reconciler needs list of pods and namespaces")]
    List { what: &'static str, error: kube::Error },
    /// The request could not be made.
    #[error("the list of pods cannot be asked for: {0}")]
    Request(#[from] kube::core::request::Error),
    /// Its answer is no list.
    #[error("the list of pods cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// A page of the list of pods, as it came.
pub(super) struct Page(String);

/// The same, taken apart as far as the pods.
#[derive(Deserialize)]
pub(super) struct List<'a> {
    metadata: ListMetadata,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct ListMetadata {
    r#continue: Option<String>,
}

impl Page {
    pub(super) fn list(&self) -> Result<List<'_>, PodsError> {
        Ok(serde_json::from_str(&self.0)?)
    }
}

impl List<'_> {
    /// Each pod's JSON.
    pub(super) fn pods(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|pod| pod.get())
    }

    /// What the next page is asked for by, if there is one.
    pub(super) fn next(&self) -> Option<String> {
        self.metadata.r#continue.clone().filter(|token| !token.is_empty())
    }
}

impl Pods {
    pub(super) fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// What the labels of each namespace say.
    pub(super) async fn namespaces(&self) -> Result<HashMap<String, NamespaceSettings>, PodsError> {
        let api: Api<KubeNamespace> = Api::all(self.client.clone());
        let mut all = HashMap::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = api.list_metadata(&params).await;
            let page = page.map_err(|error| PodsError::List { what: "namespaces", error })?;
            for namespace in page.items {
                let labels: BTreeMap<_, _> = namespace.metadata.labels.unwrap_or_default();
                let settings = NamespaceSettings::from_labels(&labels);
                all.extend(namespace.metadata.name.map(|name| (name, settings)));
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    /// A page of the pods of one account, or of all: the first one, or the one that a token of the one before
    /// leads to.
    pub(super) async fn page(
        &self,
        of: Option<(&Namespace, &ServiceAccount)>,
        token: Option<&str>,
    ) -> Result<Page, PodsError> {
        let mut params = ListParams::default().limit(PAGE);
        let path = match of {
            Some((namespace, account)) => {
                params = params.fields(&format!("spec.serviceAccountName={account},{RUNNING}"));
                format!("/api/v1/namespaces/{namespace}/pods")
            }
            None => {
                params = params.fields(RUNNING);
                "/api/v1/pods".to_owned()
            }
        };
        params.continue_token = token.map(str::to_owned);
        let request = Request::new(path).list(&params)?;
        let text = self.client.request_text(request).await;
        text.map(Page).map_err(|error| PodsError::List { what: "pods", error })
    }
}
