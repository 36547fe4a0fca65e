//! IRSA: STS exchanges the pod's token.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use pod_identity_provider::{Error, Method, PodIdentityCredentialsProvider};
use testing::eventually::eventually;

use crate::cluster::{Cluster, STS_AUDIENCE, environment};
use crate::log::Log;
use crate::script::{ScriptedClient, irsa, session};

const HOUR: Duration = Duration::from_secs(3600);

type Variables = Vec<(&'static str, String)>;

fn provider(variables: Variables) -> PodIdentityCredentialsProvider {
    PodIdentityCredentialsProvider::builder()
        .environment(environment(variables))
        .methods([Method::PodIdentity, Method::WebIdentity])
        .build()
}

/// Returns code, message and hint of STS's refusal.
async fn refusal(variables: Variables) -> (String, String, &'static str) {
    let error = provider(variables).credentials().await.unwrap_err();
    let Error::Sts(sts) = &error else { panic!("{error}") };
    (error.code().unwrap().to_owned(), sts.message().unwrap().to_owned(), error.hint().unwrap())
}

#[tokio::test]
async fn pod_with_irsa_gets_its_role_and_a_session_with_the_pods_name() {
    let cluster = Cluster::start(None).await;
    let provider = provider(cluster.irsa("irsa"));
    assert_eq!(provider.method(), Some(Method::WebIdentity));
    assert_eq!(cluster.caller_arn(&provider).await, "arn:aws:sts::111122223333:assumed-role/irsa/app-1");
    let credentials = provider.credentials().await.unwrap();
    assert_eq!(credentials.account_id().unwrap().as_str(), "111122223333");
    let session = cluster.laptop.sts().inspect(credentials.access_key_id()).unwrap();
    assert_eq!(session.chain.len(), 1);
    assert!(session.chain[0].ends_with("system:serviceaccount:default:app"), "{:?}", session.chain);
}

#[tokio::test]
async fn refusal_of_sts_has_its_code_its_message_and_a_fix() {
    let cluster = Cluster::start(None).await;
    let with_token = |audience: &str, lifetime: Duration| {
        let mut variables = cluster.irsa("irsa");
        variables[1].1 = cluster.file(&format!("token-{audience}"), &cluster.token_for(audience, lifetime));
        variables
    };
    for (variables, code, message_part, hint_part) in [
        (cluster.irsa("app"), "AccessDenied", "Not authorized to perform", "trust policy"),
        (with_token("elsewhere", HOUR), "InvalidIdentityToken", "Incorrect token audience", "client ids"),
        (with_token(STS_AUDIENCE, Duration::ZERO), "ExpiredTokenException", "Token expired", "Kubelet"),
        (
            [vec![("AWS_ROLE_SESSION_NAME", "no name".to_owned())], cluster.irsa("irsa")].concat(),
            "ValidationError",
            "roleSessionName",
            "AWS_ROLE_SESSION_NAME",
        ),
    ] {
        let (error_code, message, hint) = refusal(variables).await;
        assert_eq!(error_code, code, "{message}");
        assert!(message.contains(message_part), "{code}: {message}");
        assert!(hint.contains(hint_part), "{code}: {hint}");
    }
    assert!(cluster.laptop.sts().sessions().is_empty());
}

#[tokio::test]
async fn each_fetch_reads_the_token() {
    let cluster = Cluster::start(None).await;
    let variables = cluster.irsa("irsa");
    cluster.file("irsa-token", "");
    let provider = provider(variables);
    let error = provider.credentials().await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("AWS_WEB_IDENTITY_TOKEN_FILE provides an empty token"), "{error}");
    cluster.file("irsa-token", &format!("{}\n", cluster.token_for(STS_AUDIENCE, HOUR)));
    // For about one second all requests get the same error.
    eventually("credentials", async || provider.credentials().await.ok()).await;
}

#[tokio::test]
async fn sts_is_not_called_without_a_region() {
    let cluster = Cluster::start(None).await;
    let variables = cluster.irsa("irsa").into_iter().filter(|(name, _)| *name != "AWS_DEFAULT_REGION");
    let unused_client = ScriptedClient::default();
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(environment(variables.collect()))
        .methods([Method::WebIdentity])
        .http_client(unused_client.clone())
        .build();
    let error = provider.credentials().await.unwrap_err();
    assert!(matches!(error, Error::InvalidConfiguration(_)), "{error}");
    let error = error.to_string();
    assert!(error.contains("AWS_REGION is not set, nor is AWS_DEFAULT_REGION"), "{error}");
    assert!(unused_client.requested_urls().is_empty());
}

/// Fetches with these responses of STS. Returns the access key id or the error, and the requested URLs.
async fn fetch_from_aws<const N: usize>(
    variables: Variables,
    responses: [(u16, String); N],
) -> (Result<String, Error>, Vec<String>) {
    let sts = ScriptedClient::new(responses);
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(environment(variables))
        .methods([Method::WebIdentity])
        .http_client(sts.clone())
        .build();
    let result = provider.credentials().await.map(|credentials| credentials.access_key_id().to_owned());
    (result, sts.requested_urls())
}

/// Returns the pod's variables without a custom URL of STS.
fn variables_for_aws(cluster: &Cluster, more: &[(&'static str, &str)]) -> Variables {
    let variables = cluster.irsa("irsa").into_iter().filter(|(name, _)| *name != "AWS_ENDPOINT_URL_STS");
    variables.chain(more.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect()
}

#[tokio::test]
async fn retries_if_aws_cannot_reach_the_issuer() {
    let cluster = Cluster::start(None).await;
    let unreachable = "<ErrorResponse><Error><Type>Sender</Type><Code>IDPCommunicationError</Code>\
                       <Message>not now</Message></Error></ErrorResponse>";
    let responses = [(400, unreachable.to_owned()), (200, session("secret"))];
    let (result, urls) = fetch_from_aws(variables_for_aws(&cluster, &[]), responses).await;
    assert_eq!(result.unwrap(), "ASIAFETCHED");
    assert_eq!(urls, ["https://sts.eu-west-1.amazonaws.com/"; 2]);
}

#[tokio::test]
async fn token_and_credentials_are_not_logged_at_any_level() {
    let cluster = Cluster::start(None).await;
    let variables = cluster.irsa("irsa");
    let token = std::fs::read_to_string(&variables[1].1).unwrap();
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let credentials = provider(variables).credentials().await.unwrap();
    let text = log.text();
    assert!(text.contains("credentials fetched") && text.contains("TRACE STS.AssumeRole"), "{text}");
    let (secret, session) = (credentials.secret_access_key(), credentials.session_token().unwrap());
    for secret in [secret, session, &token, token.rsplit('.').next().unwrap()] {
        assert!(!text.contains(secret), "logged: {secret}\n{text}");
    }
}

#[tokio::test]
async fn calls_fips_and_dual_stack_endpoints_if_configured() {
    let cluster = Cluster::start(None).await;
    for (more, url) in [
        (
            &[("AWS_USE_FIPS_ENDPOINT", "true"), ("AWS_REGION", "us-east-2")][..],
            "https://sts-fips.us-east-2.amazonaws.com/",
        ),
        (&[("AWS_USE_DUALSTACK_ENDPOINT", "true")], "https://sts.eu-west-1.api.aws/"),
    ] {
        let (result, urls) =
            fetch_from_aws(variables_for_aws(&cluster, more), [(200, session("secret"))]).await;
        assert_eq!((result.unwrap().as_str(), &*urls), ("ASIAFETCHED", &[url.to_owned()][..]));
    }
}

#[tokio::test]
async fn rejects_a_response_without_a_secret_key() {
    let cluster = Cluster::start(None).await;
    let (result, _) = fetch_from_aws(variables_for_aws(&cluster, &[]), [(200, session(""))]).await;
    let error = result.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("holds no session of") && error.contains("secretAccessKey is missing"), "{error}");
}

#[tokio::test]
async fn contradictory_variables_are_an_invalid_configuration() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "the-pods-token").unwrap();
    let url = ("AWS_ENDPOINT_URL_STS", "https://sts.example.com");
    for more in [
        &[("AWS_ENDPOINT_URL", "no url")][..],
        &[url, ("AWS_USE_FIPS_ENDPOINT", "true")],
        &[url, ("AWS_USE_DUALSTACK_ENDPOINT", "true")],
    ] {
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let (result, urls) =
            fetch_from_aws::<0>(irsa(token.path()).into_iter().chain(more).collect(), []).await;
        let error = result.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        assert!(error.to_string().contains("STS cannot be called"), "{error}");
        assert!(error.hint().unwrap().contains("AWS_ENDPOINT_URL"), "{error}");
        assert!(matches!(error.into(), CredentialsError::InvalidConfiguration(_)));
        assert_eq!(urls, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn error_at_the_deadline_is_the_last_refusal_of_sts() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "the-pods-token").unwrap();
    let throttled = "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code>\
                     <Message>Rate exceeded</Message></Error></ErrorResponse>";
    let sts = ScriptedClient::new([(400, throttled.to_owned())]).then_hang();
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(environment(irsa(token.path())))
        .methods([Method::WebIdentity])
        .http_client(sts.clone())
        .build();
    let error = provider.credentials().await.unwrap_err();
    let Error::Sts(failed) = &error else { panic!("{error}") };
    assert_eq!((error.code(), failed.message()), (Some("Throttling"), Some("Rate exceeded")));
    assert!(error.is_retryable());
    assert!(sts.requested_urls().len() > 1);
}

#[tokio::test]
async fn sts_is_called_through_the_proxy_of_the_environment() {
    let cluster = Cluster::start(None).await;
    // The name cannot be resolved, so only a proxy can handle the request. STS acts as the proxy.
    let proxy = cluster.laptop.sts_url().replacen("http://", "http://user:proxys-password@", 1);
    let with = |more: &[(&'static str, &str)]| {
        provider(variables_for_aws(
            &cluster,
            &[&[("AWS_ENDPOINT_URL_STS", "http://sts.invalid"), ("http_proxy", &*proxy)], more].concat(),
        ))
    };
    let provider = with(&[]);
    let sts = cluster.laptop.sts();
    let credentials = provider.credentials().await.unwrap();
    assert!(sts.inspect(credentials.access_key_id()).unwrap().assumed_role_arn.contains("irsa"));
    assert!(!format!("{provider:?}").contains("proxys-password"));
    let error = with(&[("NO_PROXY", "sts.invalid")]).credentials().await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("STS did not answer") && !error.contains("proxys-password"), "{error}");
    let error =
        with(&[("HTTP_PROXY", "socks5://user:proxys-password@proxy")]).credentials().await.unwrap_err();
    assert!(matches!(error, Error::InvalidConfiguration(_)), "{error}");
    let error = error.to_string();
    assert!(error.contains("HTTP_PROXY is not the URL") && !error.contains("proxys-password"), "{error}");
}
