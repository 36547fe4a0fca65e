//! Retries, and the errors without an agent.

use std::time::Duration;

use pod_identity_provider::{Environment, Error, PodIdentityCredentialsProvider};
use serde_json::json;

use crate::replay::{Endpoint, Exchange};

const AGENT: &str = "http://169.254.170.23/v1/credentials";

fn provider(variables: &[(&str, &str)]) -> PodIdentityCredentialsProvider {
    let environment: Environment = variables.iter().copied().collect();
    PodIdentityCredentialsProvider::builder()
        .environment(environment)
        .deadline(Duration::from_secs(3))
        .build()
}

fn exchanges(to: &str, authorizations: &[&str], last: serde_json::Value) -> Vec<Exchange> {
    let all = authorizations.iter().enumerate().map(|(number, authorization)| {
        let later = json!({"status": 503, "headers": {"retry-after": "1"}});
        let response = if number + 1 == authorizations.len() { last.clone() } else { later };
        json!({"request": {"to": to, "path": "/v1/credentials", "authorization": authorization}, "response": response})
    });
    serde_json::from_value(all.collect()).unwrap()
}

fn good() -> serde_json::Value {
    json!({"status": 200, "body": {
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "secret",
        "Token": "token",
        "Expiration": "2036-11-22T06:00:00Z",
    }})
}

#[tokio::test]
async fn each_attempt_reads_the_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first-token").unwrap();
    let traffic = exchanges("http://127.0.0.1:${port}", &["first-token", "second-token"], good());
    let endpoint =
        Endpoint::start(traffic, Some(concat!("pod-identity-provider/", env!("CARGO_PKG_VERSION")))).await;
    let uri = format!("http://{}/v1/credentials", endpoint.address);
    let path = file.path().display().to_string();
    let provider = provider(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &path),
    ]);
    let fetch = tokio::spawn(async move { provider.credentials().await });
    // The pause after the first attempt is a second.
    testing::eventually::eventually("the first attempt", async || (endpoint.requests() == 1).then_some(()))
        .await;
    std::fs::write(file.path(), "second-token").unwrap();
    fetch.await.unwrap().unwrap();
    assert_eq!(endpoint.failures(), [""; 0]);
}

#[cfg(target_os = "linux")]
mod in_a_namespace {
    use testing::netns::{Namespace, available};

    use super::*;

    /// Fetches from the agent's real address inside a network namespace.
    fn fetch(namespace: &Namespace, agent: Option<Vec<Exchange>>) -> Result<Vec<String>, Error> {
        let inside = namespace.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let endpoint = match agent {
                    Some(traffic) => Some(Endpoint::start_at("169.254.170.23:80", traffic, None).await),
                    None => None,
                };
                let provider = provider(&[
                    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AGENT),
                    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the-pods-token"),
                ]);
                provider.credentials().await?;
                Ok(endpoint.map(|endpoint| endpoint.failures()).unwrap_or_default())
            })
        });
        inside.join().unwrap()
    }

    #[test]
    fn default_client_calls_the_agents_address() {
        if !available() {
            return;
        }
        let node = Namespace::new().unwrap();
        node.add_address("169.254.170.23".parse().unwrap()).unwrap();
        let traffic = exchanges("http://169.254.170.23", &["the-pods-token"], good());
        assert_eq!(fetch(&node, Some(traffic)).unwrap(), [""; 0]);
    }

    #[test]
    fn error_distinguishes_a_missing_address_from_a_stopped_agent() {
        if !available() {
            return;
        }
        let node = Namespace::new().unwrap();
        let error = fetch(&node, None).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("it cannot be reached") && text.contains("Install the agent on this node"),
            "{text}"
        );
        node.add_address("169.254.170.23".parse().unwrap()).unwrap();
        let error = fetch(&node, None).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("connection refused") && text.contains("Start the agent on this node"),
            "{text}"
        );
        assert!(error.is_retryable());
    }
}
