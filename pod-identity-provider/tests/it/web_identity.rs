//! IRSA: STS exchanges the pod's token.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use pod_identity_provider::{Error, Method, PodIdentityCredentialsProvider};
use testing::eventually::eventually;

use crate::cluster::{Cluster, STS_AUDIENCE, environment};
use crate::log::Log;
use crate::script::{Script, irsa, session};

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
async fn a_pod_with_irsa_has_its_service_accounts_role_and_the_pods_name() {
    let cluster = Cluster::start(None).await;
    let provider = provider(cluster.irsa("irsa"));
    assert_eq!(provider.method(), Some(Method::WebIdentity));
    assert_eq!(cluster.caller(&provider).await, "arn:aws:sts::111122223333:assumed-role/irsa/app-1");
    let credentials = provider.credentials().await.unwrap();
    assert_eq!(credentials.account_id().unwrap().as_str(), "111122223333");
    let session = cluster.laptop.sts().inspect(credentials.access_key_id()).unwrap();
    assert_eq!(session.chain.len(), 1);
    assert!(session.chain[0].ends_with("system:serviceaccount:default:app"), "{:?}", session.chain);
}

#[tokio::test]
async fn a_refusal_of_sts_keeps_its_message_and_gets_a_fix() {
    let cluster = Cluster::start(None).await;
    let with_token = |audience: &str, life: Duration| {
        let mut variables = cluster.irsa("irsa");
        variables[1].1 = cluster.file(&format!("token-{audience}"), &cluster.token_for(audience, life));
        variables
    };
    for (variables, code, words, advice) in [
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
        let (actual, message, hint) = refusal(variables).await;
        assert_eq!(actual, code, "{message}");
        assert!(message.contains(words), "{code}: {message}");
        assert!(hint.contains(advice), "{code}: {hint}");
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
    // All requests get the same error for about a second.
    eventually("credentials", async || provider.credentials().await.ok()).await;
}

#[tokio::test]
async fn without_a_region_sts_is_not_called() {
    let cluster = Cluster::start(None).await;
    let variables = cluster.irsa("irsa").into_iter().filter(|(name, _)| *name != "AWS_DEFAULT_REGION");
    let nobody = Script::default();
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(environment(variables.collect()))
        .methods([Method::WebIdentity])
        .http_client(nobody.clone())
        .build();
    let error = provider.credentials().await.unwrap_err();
    assert!(matches!(error, Error::InvalidConfiguration(_)), "{error}");
    let error = error.to_string();
    assert!(error.contains("AWS_REGION is not set, nor is AWS_DEFAULT_REGION"), "{error}");
    assert!(nobody.asked().is_empty());
}

/// Returns the access key id or the error of these responses, and the requested URLs.
async fn asked_at_aws<const N: usize>(
    variables: Variables,
    answers: [(u16, String); N],
) -> (Result<String, Error>, Vec<String>) {
    let sts = Script::new(answers);
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(environment(variables))
        .methods([Method::WebIdentity])
        .http_client(sts.clone())
        .build();
    let answer = provider.credentials().await.map(|credentials| credentials.access_key_id().to_owned());
    (answer, sts.asked())
}

/// Returns the pod's variables with AWS's own endpoint.
fn at_aws(cluster: &Cluster, more: &[(&'static str, &str)]) -> Variables {
    let variables = cluster.irsa("irsa").into_iter().filter(|(name, _)| *name != "AWS_ENDPOINT_URL_STS");
    variables.chain(more.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect()
}

#[tokio::test]
async fn an_issuer_that_aws_cannot_reach_for_a_moment_causes_a_retry() {
    let cluster = Cluster::start(None).await;
    let unreachable = "<ErrorResponse><Error><Type>Sender</Type><Code>IDPCommunicationError</Code>\
                       <Message>not now</Message></Error></ErrorResponse>";
    let answers = [(400, unreachable.to_owned()), (200, session("secret"))];
    let (answer, asked) = asked_at_aws(at_aws(&cluster, &[]), answers).await;
    assert_eq!(answer.unwrap(), "ASIAFETCHED");
    assert_eq!(asked, ["https://sts.eu-west-1.amazonaws.com/"; 2]);
}

#[tokio::test]
async fn neither_the_token_nor_the_credentials_are_logged_at_any_level() {
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
async fn fips_and_dual_stack_endpoints_are_called_if_configured() {
    let cluster = Cluster::start(None).await;
    for (more, url) in [
        (
            &[("AWS_USE_FIPS_ENDPOINT", "true"), ("AWS_REGION", "us-east-2")][..],
            "https://sts-fips.us-east-2.amazonaws.com/",
        ),
        (&[("AWS_USE_DUALSTACK_ENDPOINT", "true")], "https://sts.eu-west-1.api.aws/"),
    ] {
        let (answer, asked) = asked_at_aws(at_aws(&cluster, more), [(200, session("secret"))]).await;
        assert_eq!((answer.unwrap().as_str(), &*asked), ("ASIAFETCHED", &[url.to_owned()][..]));
    }
}

#[tokio::test]
async fn a_response_without_a_member_is_an_error() {
    let cluster = Cluster::start(None).await;
    let (answer, _) = asked_at_aws(at_aws(&cluster, &[]), [(200, session(""))]).await;
    let error = answer.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("holds no session of") && error.contains("secretAccessKey is missing"), "{error}");
}

#[tokio::test]
async fn contradicting_variables_are_an_invalid_configuration() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "the-pods-token").unwrap();
    let url = ("AWS_ENDPOINT_URL_STS", "https://sts.example.com");
    for more in [
        &[("AWS_ENDPOINT_URL", "no url")][..],
        &[url, ("AWS_USE_FIPS_ENDPOINT", "true")],
        &[url, ("AWS_USE_DUALSTACK_ENDPOINT", "true")],
    ] {
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let (answer, asked) =
            asked_at_aws::<0>(irsa(token.path()).into_iter().chain(more).collect(), []).await;
        let error = answer.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        assert!(error.to_string().contains("STS cannot be called"), "{error}");
        assert!(error.hint().unwrap().contains("AWS_ENDPOINT_URL"), "{error}");
        assert!(matches!(error.into(), CredentialsError::InvalidConfiguration(_)));
        assert_eq!(asked, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_last_refusal_of_sts_is_the_error() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "the-pods-token").unwrap();
    let throttled = "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code>\
                     <Message>Rate exceeded</Message></Error></ErrorResponse>";
    let sts = Script::new([(400, throttled.to_owned())]).then_silent();
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(environment(irsa(token.path())))
        .methods([Method::WebIdentity])
        .http_client(sts.clone())
        .build();
    let error = provider.credentials().await.unwrap_err();
    let Error::Sts(failed) = &error else { panic!("{error}") };
    assert_eq!((error.code(), failed.message()), (Some("Throttling"), Some("Rate exceeded")));
    assert!(error.is_retryable());
    assert!(sts.asked().len() > 1);
}

#[tokio::test]
async fn sts_is_called_through_the_proxy_of_the_given_environment() {
    let cluster = Cluster::start(None).await;
    // The name does not resolve, so only a proxy can serve the request. Here STS is the proxy.
    let proxy = cluster.laptop.sts_url().replacen("http://", "http://user:proxys-password@", 1);
    let with = |more: &[(&'static str, &str)]| {
        provider(at_aws(
            &cluster,
            &[&[("AWS_ENDPOINT_URL_STS", "http://sts.invalid"), ("http_proxy", &*proxy)], more].concat(),
        ))
    };
    let provider = with(&[]);
    let role = cluster.laptop.sts();
    let credentials = provider.credentials().await.unwrap();
    assert!(role.inspect(credentials.access_key_id()).unwrap().assumed_role_arn.contains("irsa"));
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
