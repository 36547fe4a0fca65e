//! Choice of the method, and the errors without one.

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use pod_identity_provider::{Environment, Error, Method, PodIdentityCredentialsProvider};

use crate::cluster::{Cluster, environment};
use crate::script::ScriptedClient;

#[tokio::test]
async fn pod_with_pod_identity_gets_the_role_of_its_association() {
    let cluster = Cluster::start(None).await;
    let variables = environment(cluster.pod_identity(&cluster.laptop.credentials_url()));
    let provider = PodIdentityCredentialsProvider::builder().environment(variables).build();
    assert_eq!(provider.method(), Some(Method::PodIdentity));
    let arn = cluster.caller_arn(&provider).await;
    assert!(arn.starts_with("arn:aws:sts::111122223333:assumed-role/app/"), "{arn}");
    // A request without an SDK client.
    let credentials = provider.credentials().await.unwrap();
    let session = cluster.laptop.sts().inspect(credentials.access_key_id()).unwrap();
    assert_eq!(session.assumed_role_arn, arn);
    assert_eq!(credentials.account_id().unwrap().as_str(), "111122223333");
}

#[cfg(feature = "irsa")]
#[tokio::test]
async fn pod_with_both_methods_uses_the_first_of_the_list() {
    let cluster = Cluster::start(None).await;
    let mut both = cluster.pod_identity(&cluster.laptop.credentials_url());
    both.extend(cluster.irsa("irsa"));
    let both = environment(both);
    for (methods, role) in [
        ([Method::PodIdentity, Method::WebIdentity], "assumed-role/app/"),
        ([Method::WebIdentity, Method::PodIdentity], "assumed-role/irsa/"),
    ] {
        let provider =
            PodIdentityCredentialsProvider::builder().environment(both.clone()).methods(methods).build();
        assert_eq!(provider.method(), Some(methods[0]));
        let arn = cluster.caller_arn(&provider).await;
        assert!(arn.contains(role), "{arn}");
    }
}

#[cfg(not(feature = "irsa"))]
#[tokio::test]
async fn error_of_irsa_without_the_feature_names_the_feature() {
    let irsa = [
        ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/irsa"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent"),
        ("AWS_REGION", "eu-west-1"),
    ];
    let unused_client = ScriptedClient::default();
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(irsa.into_iter().collect())
        .methods([Method::PodIdentity, Method::WebIdentity])
        .or_else("another", Credentials::new("AKIAOTHER", "secret", None, None, "test"))
        .http_client(unused_client.clone())
        .build();
    assert_eq!(provider.method(), Some(Method::WebIdentity));
    let error = provider.credentials().await.unwrap_err();
    // With this kind of error, a chain of the SDK stops.
    assert!(matches!(error, Error::InvalidConfiguration(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("the feature `irsa`") && text.contains("Add the feature"), "{text}");
    assert!(matches!(error.into(), CredentialsError::InvalidConfiguration(_)));
    assert!(unused_client.requested_urls().is_empty());
}

#[tokio::test]
async fn configured_method_that_fails_is_not_skipped() {
    let cluster = Cluster::start(None).await;
    let mut both = cluster.pod_identity(&cluster.laptop.credentials_url());
    both.extend(cluster.irsa("irsa"));
    cluster.file("pod-identity-token", "");
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(environment(both))
        .methods([Method::PodIdentity, Method::WebIdentity])
        .or_else("another", Credentials::new("AKIAOTHER", "secret", None, None, "test"))
        .build();
    assert_eq!(provider.method(), Some(Method::PodIdentity));
    let error = provider.credentials().await.unwrap_err();
    assert!(matches!(error.into(), CredentialsError::InvalidConfiguration(_)));
    assert!(cluster.laptop.sts().sessions().is_empty());
}

#[tokio::test]
async fn error_without_configuration_names_the_missing_variables() {
    let unused_client = ScriptedClient::default();
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(Environment::default())
        .methods([Method::PodIdentity, Method::WebIdentity])
        .http_client(unused_client.clone())
        .build();
    assert_eq!(provider.method(), None);
    let error = provider.credentials().await.unwrap_err();
    // With this kind of error, a chain of the SDK continues.
    assert!(matches!(error.clone().into(), CredentialsError::CredentialsNotLoaded(_)));
    let Error::NotConfigured(error) = error else { panic!("{error}") };
    let missing = error.missing();
    for variable in [
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ] {
        assert!(missing.contains(variable), "{missing}");
    }
    assert!(unused_client.requested_urls().is_empty());
}

#[tokio::test]
async fn fallback_is_called_if_no_method_is_configured() {
    let own = Credentials::new("AKIADEVELOPER", "secret", None, None, "test");
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(Environment::default())
        .or_else("developer", own)
        .build();
    assert_eq!((provider.method(), provider.fallback()), (None, Some("developer")));
    assert_eq!(provider.credentials().await.unwrap().access_key_id(), "AKIADEVELOPER");
}

#[test]
fn irsa_precedes_the_fallback() {
    let irsa = [("AWS_ROLE_ARN", "role"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "token")];
    let nodes = Credentials::new("AKIANODE", "secret", None, None, "test");
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(irsa.into_iter().collect())
        .or_else("the node's role", nodes)
        .build();
    assert_eq!((provider.method(), provider.fallback()), (Some(Method::WebIdentity), None));
}
