//! Pods, and the tokens that kube-apiserver would give them.

use std::time::Duration;

pub(crate) use benches::signed::ISSUER;
use pod_identity_local::issuer::Issuer;
use pod_identity_local::services::Workload;
use pod_identity_runtime::clock;

/// A pod with names as long as names are.
pub(crate) fn pod(number: usize) -> Result<Workload, Box<dyn std::error::Error>> {
    let account = format!("checkout-service-{number}");
    let pod = format!("{account}-7c9d6b5f4d-x2k9q");
    Ok(Workload::new("online-shop".parse()?, account.parse()?, pod.parse()?)?)
}

/// A day's token of a pod.
pub(crate) fn token(issuer: &Issuer, pod: &Workload) -> Result<String, Box<dyn std::error::Error>> {
    Ok(issuer.mint(&pod.token_request(clock::now(), Duration::from_secs(86_400)))?)
}
