//! Which way to credentials is taken, and what is said where there is none.

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use pod_identity_provider::{Environment, Error, Method, PodIdentityCredentialsProvider};

use crate::cluster::{Cluster, environment};
use crate::script::Script;

#[tokio::test]
async fn a_pod_with_pod_identity_is_its_associations_role() {
    let cluster = Cluster::start(None).await;
    let variables = environment(cluster.pod_identity(&cluster.laptop.credentials_url()));
    let provider = PodIdentityCredentialsProvider::builder().environment(variables).build();
    assert_eq!(provider.method(), Some(Method::PodIdentity));
    let arn = cluster.caller(&provider).await;
    assert!(arn.starts_with("arn:aws:sts::111122223333:assumed-role/app/"), "{arn}");
    // Without an SDK.
    let credentials = provider.credentials().await.unwrap();
    let session = cluster.laptop.sts().inspect(credentials.access_key_id()).unwrap();
    assert_eq!(session.assumed_role_arn, arn);
    assert_eq!(credentials.account_id().unwrap().as_str(), "111122223333");
}

#[cfg(feature = "irsa")]
#[tokio::test]
async fn of_a_pod_with_both_ways_the_first_that_was_told_wins() {
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
        let arn = cluster.caller(&provider).await;
        assert!(arn.contains(role), "{arn}");
    }
}

#[cfg(not(feature = "irsa"))]
#[tokio::test]
async fn without_the_feature_a_pod_with_irsa_is_told_to_build_it_in_and_nobody_is_asked() {
    let irsa = [
        ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/irsa"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent"),
        ("AWS_REGION", "eu-west-1"),
    ];
    let nobody = Script::default();
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(irsa.into_iter().collect())
        .methods([Method::PodIdentity, Method::WebIdentity])
        .or_else("another", Credentials::new("AKIAOTHER", "secret", None, None, "test"))
        .http_client(nobody.clone())
        .build();
    assert_eq!(provider.method(), Some(Method::WebIdentity));
    let error = provider.credentials().await.unwrap_err();
    // It is set up and does not work: a chain of the SDK ends here.
    assert!(matches!(error, CredentialsError::InvalidConfiguration(_)), "{error:?}");
    assert!(matches!(Error::of(&error), Some(Error::FeatureMissing("irsa"))), "{error:?}");
    let text = Error::of(&error).unwrap().to_string();
    assert!(text.contains("the feature `irsa`") && text.contains("Build the program with it"), "{text}");
    assert!(nobody.asked().is_empty());
}

#[tokio::test]
async fn a_way_that_is_set_up_and_does_not_work_is_not_passed_over() {
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
    assert!(matches!(error, CredentialsError::InvalidConfiguration(_)), "{error:?}");
    assert!(cluster.laptop.sts().sessions().is_empty());
}

#[tokio::test]
async fn a_pod_that_was_told_nothing_reads_what_is_missing_and_nobody_is_asked() {
    let nobody = Script::default();
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(Environment::default())
        .methods([Method::PodIdentity, Method::WebIdentity])
        .http_client(nobody.clone())
        .build();
    assert_eq!(provider.method(), None);
    let error = provider.credentials().await.unwrap_err();
    // A chain of the SDK goes on after this one.
    assert!(matches!(error, CredentialsError::CredentialsNotLoaded(_)), "{error:?}");
    let Some(Error::NotConfigured { missing }) = Error::of(&error) else { panic!("{error:?}") };
    for variable in [
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ] {
        assert!(missing.contains(variable), "{missing}");
    }
    assert!(nobody.asked().is_empty());
}

#[tokio::test]
async fn what_was_given_for_want_of_others_is_asked_where_nothing_is_set_up() {
    let own = Credentials::new("AKIADEVELOPER", "secret", None, None, "test");
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(Environment::default())
        .or_else("a developer's own", own)
        .build();
    assert_eq!(provider.method(), Some(Method::Other("a developer's own")));
    assert_eq!(provider.credentials().await.unwrap().access_key_id(), "AKIADEVELOPER");
}

#[test]
fn what_was_given_for_want_of_others_comes_after_irsa_too() {
    let irsa = [("AWS_ROLE_ARN", "role"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "token")];
    let nodes = Credentials::new("AKIANODE", "secret", None, None, "test");
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(irsa.into_iter().collect())
        .or_else("the node's role", nodes)
        .build();
    assert_eq!(provider.method(), Some(Method::WebIdentity));
}
