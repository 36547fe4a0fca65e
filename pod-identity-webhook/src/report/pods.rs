//! Running pods and the labels of namespaces, listed page by page.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::Request;
use pod_identity_core::inject::NamespaceSettings;
use serde::Deserialize;
use serde_json::value::RawValue;

use pod_identity_runtime::kubernetes::ApiFailure;

use crate::lookup::ReadFailure;

/// Objects in one page. The JSON of a pod has about 10 KiB, and some hundred at most.
const PAGE: u32 = 100;
/// Pods that have ended need no credentials.
const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// The RBAC rule that the lists need.
const RULE: &str = "list of pods and namespaces in all namespaces (a ClusterRole)";

/// A page of the list of pods as JSON.
pub(super) struct Page(String);

/// A page, parsed as far as the pods.
#[derive(Deserialize)]
pub(super) struct PodList<'a> {
    metadata: ListMetadata,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct ListMetadata {
    r#continue: Option<String>,
}

impl Page {
    pub(super) fn parse(&self) -> Result<PodList<'_>, ReadFailure> {
        serde_json::from_str(&self.0).map_err(|error| ReadFailure::Api(ApiFailure::Answer(error.to_string())))
    }
}

impl PodList<'_> {
    /// The JSON of each pod.
    pub(super) fn pods(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|pod| pod.get())
    }

    /// The token of the next page, if there is one.
    pub(super) fn next(&self) -> Option<String> {
        self.metadata.r#continue.clone().filter(|token| !token.is_empty())
    }
}

/// Returns the settings in the labels of each namespace.
pub(super) async fn namespaces(client: &Client) -> Result<HashMap<String, NamespaceSettings>, ReadFailure> {
    let api: Api<Namespace> = Api::all(client.clone());
    let mut all = HashMap::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list_metadata(&params).await.map_err(|error| ReadFailure::of(&error, RULE))?;
        for namespace in page.items {
            let labels = namespace.metadata.labels.unwrap_or_default();
            let settings = NamespaceSettings::from_labels(&labels);
            all.extend(namespace.metadata.name.map(|name| (name, settings)));
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// Returns the first page of running pods, or the page that `token` leads to.
pub(super) async fn page(client: &Client, token: Option<&str>) -> Result<Page, ReadFailure> {
    let mut params = ListParams::default().limit(PAGE).fields(RUNNING);
    params.continue_token = token.map(str::to_owned);
    let request = Request::new("/api/v1/pods").list(&params);
    let request = request.map_err(|error| ReadFailure::Api(ApiFailure::Answer(error.to_string())))?;
    let text = client.request_text(request).await;
    text.map(Page).map_err(|error| ReadFailure::of(&error, RULE))
}
