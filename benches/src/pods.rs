//! Pods with their tokens, as from kube-apiserver.

use std::time::Duration;

pub(crate) use benches::signed::ISSUER;
use pod_identity_local::issuer::Issuer;
use pod_identity_local::services::Workload;
use pod_identity_runtime::clock;

/// Makes a pod with names of usual length.
pub(crate) fn pod(number: usize) -> Result<Workload, Box<dyn std::error::Error>> {
    let service_account = format!("checkout-service-{number}");
    let pod = format!("{service_account}-7c9d6b5f4d-x2k9q");
    Ok(Workload::new("online-shop".parse()?, service_account.parse()?, pod.parse()?)?)
}

/// Makes a pod token that is valid for a day.
pub(crate) fn token(issuer: &Issuer, pod: &Workload) -> Result<String, Box<dyn std::error::Error>> {
    Ok(issuer.mint(&pod.token_request(clock::now(), Duration::from_secs(86_400)))?)
}
