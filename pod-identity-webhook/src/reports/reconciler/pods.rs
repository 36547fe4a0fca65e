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

/// Pods to a page: some megabytes.
const PAGE: u32 = 250;
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

/// A page of the list of pods.
pub(super) struct Page {
    text: String,
    next: Option<String>,
}

#[derive(Deserialize)]
struct List<'a> {
    metadata: ListMetadata,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct ListMetadata {
    r#continue: Option<String>,
}

impl Page {
    /// Each pod's JSON.
    pub(super) fn pods(&self) -> Result<impl Iterator<Item = &str>, PodsError> {
        let list: List<'_> = serde_json::from_str(&self.text)?;
        Ok(list.items.into_iter().map(RawValue::get))
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

    /// The first pods of one account, or of all.
    pub(super) async fn first_page(
        &self,
        of: Option<(&Namespace, &ServiceAccount)>,
    ) -> Result<Page, PodsError> {
        self.page(of, None).await
    }

    /// Those that come after, if there are any.
    pub(super) async fn next_page(
        &self,
        of: Option<(&Namespace, &ServiceAccount)>,
        before: &Page,
    ) -> Result<Option<Page>, PodsError> {
        match &before.next {
            Some(token) => self.page(of, Some(token)).await.map(Some),
            None => Ok(None),
        }
    }

    async fn page(
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
        let text = text.map_err(|error| PodsError::List { what: "pods", error })?;
        let list: List<'_> = serde_json::from_str(&text)?;
        let next = list.metadata.r#continue.filter(|token| !token.is_empty());
        Ok(Page { text, next })
    }
}
