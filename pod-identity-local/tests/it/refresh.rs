//! SDKs replace credentials before they expire.

use std::time::Duration;

use pod_identity_local::sample::SAMPLE;
use pod_identity_local::services::LocalConfig;
use pod_identity_runtime::clock;

use crate::clients::Sdk;
use crate::harness::OnePod;

/// Lifetime of a session: longer than the time before the expiry in which an SDK blocks, which is 10 s for Rust.
const SESSION_LIFE: Duration = Duration::from_secs(12);
/// Time of the calls: the first session ends within it.
const CALLING: Duration = Duration::from_secs(15);

#[tokio::test]
async fn every_sdk_replaces_credentials_before_they_expire() {
    let config = LocalConfig { expire_after: Some(SESSION_LIFE), ..LocalConfig::default() };
    let pod = OnePod::start(SAMPLE, config).await;
    let call = |sdk: Sdk| sdk.call_for(pod.variables(), CALLING);
    let (boto3, javascript, rust) = tokio::join!(call(Sdk::Boto3), call(Sdk::JavaScript), call(Sdk::Rust));
    for (sdk, seen) in [(Sdk::Boto3, boto3), (Sdk::JavaScript, javascript), (Sdk::Rust, rust)] {
        let Some(seen) = seen else { continue };
        assert_eq!(seen["errors"], serde_json::json!([]), "{sdk:?}: {seen:#}");
        let keys = seen["accessKeyIds"].as_array().unwrap();
        assert!(keys.len() >= 2, "{sdk:?} never refreshed: {seen:#}");
        assert!(seen["calls"].as_u64().unwrap() >= 10, "{sdk:?} hardly called: {seen:#}");
        let first = pod.services.sts().inspect(keys[0].as_str().unwrap()).unwrap();
        let ended: jiff::Timestamp = first.expiration.parse().unwrap();
        assert!(ended < clock::now().try_into().unwrap(), "the first session has not ended: {first:?}");
    }
}
