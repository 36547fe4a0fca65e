//! An app with only a pod's variables gets credentials from the agent and calls STS.

use pod_identity_local::sample::SAMPLE;
use pod_identity_local::services::LocalConfig;
use serde_json::{Value, json};

use crate::clients::Sdk;
use crate::harness::OnePod;

#[tokio::test]
async fn boto3_gets_the_pods_role_with_six_tags() {
    assert_pods_role_with_six_tags(Sdk::Boto3).await;
}

#[tokio::test]
async fn aws_cli_gets_the_pods_role_with_six_tags() {
    assert_pods_role_with_six_tags(Sdk::AwsCli).await;
}

#[tokio::test]
async fn javascript_sdk_gets_the_pods_role_with_six_tags() {
    assert_pods_role_with_six_tags(Sdk::JavaScript).await;
}

#[tokio::test]
async fn rust_sdk_gets_the_pods_role_with_six_tags() {
    assert_pods_role_with_six_tags(Sdk::Rust).await;
}

async fn assert_pods_role_with_six_tags(sdk: Sdk) {
    let pod = OnePod::start(SAMPLE, LocalConfig::default()).await;
    let Some(called) = sdk.call(pod.variables()).await else { return };

    let uid = pod.workload.pod.uid.to_string();
    let tags = json!({
        "eks-cluster-arn": "arn:aws:eks:eu-west-1:111122223333:cluster/laptop",
        "eks-cluster-name": "laptop",
        "kubernetes-namespace": "default",
        "kubernetes-pod-name": "app-1",
        "kubernetes-pod-uid": uid,
        "kubernetes-service-account": "app",
    });
    let arn_of_a_session = "arn:aws:sts::111122223333:assumed-role/app/eks-laptop-app-1-";
    assert!(called.arn.starts_with(arn_of_a_session), "{called:?}");

    let session = pod.services.sts().inspect(&called.access_key_id).unwrap();
    assert_eq!(session.assumed_role_arn, called.arn);
    assert_eq!(serde_json::to_value(&session.tags).unwrap(), tags);
    assert_eq!(sorted(&json!(session.transitive_tag_keys)), keys(&tags));
    assert_eq!(session.chain, ["pods.eks.amazonaws.com"]);

    let page = pod.inspection(&format!("/sessions/{}", called.access_key_id)).await;
    assert_eq!(page["assumedRoleArn"], called.arn);
    assert_eq!(page["tags"], tags);
    assert_eq!(sorted(&page["transitiveTagKeys"]), keys(&tags));
    assert!(pod.inspection("/sessions").await.as_array().unwrap().contains(&page));
    // DNS rebinding: a request for the host of a web page is refused.
    let address = pod.services.inspection_url().trim_start_matches("http://").parse().unwrap();
    for (host, status) in [("attacker.example:80", 403), ("localhost:1", 200), ("127.0.0.1", 200)] {
        let mut connection = testing::wire::Connection::open(address).await.unwrap();
        let answer = connection.ask("GET /sessions", &[("Host", host)], b"").await.unwrap();
        assert_eq!(answer.status, status, "{host}");
    }
    let texts = page.to_string();
    assert!(!texts.contains("secret") && !texts.contains("essionToken"), "{texts}");
}

fn keys(tags: &Value) -> Vec<String> {
    tags.as_object().unwrap().keys().cloned().collect()
}

fn sorted(list: &Value) -> Vec<String> {
    let mut all: Vec<String> = serde_json::from_value(list.clone()).unwrap();
    all.sort();
    all
}
