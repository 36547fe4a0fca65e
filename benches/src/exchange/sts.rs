//! An STS without a socket that responds at once, with only `AssumeRole` and `GetCallerIdentity`.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sts::Client;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;

/// Returns a client of this STS.
pub(super) fn client() -> Client {
    let http_client = http_client_fn(|_, _| SharedHttpConnector::new(Sts));
    let credentials = Credentials::new("AKIABENCHBENCHBENCH1", "a-secret", None, None, "bench");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .http_client(http_client)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .sleep_impl(aws_sdk_sts::config::SharedAsyncSleep::new(Sleep))
        .build();
    pod_identity_auth::sts::client(&config)
}

#[derive(Debug)]
struct Sleep;

impl aws_sdk_sts::config::AsyncSleep for Sleep {
    fn sleep(&self, duration: std::time::Duration) -> aws_sdk_sts::config::Sleep {
        aws_sdk_sts::config::Sleep::new(tokio::time::sleep(duration))
    }
}

#[derive(Debug)]
struct Sts;

impl HttpConnector for Sts {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let signed =
            request.headers().get("authorization").is_some_and(|value| value.contains("/sts/aws4_request"));
        let body = request.body().bytes().unwrap_or_default();
        let is = |start: &str| signed && body.starts_with(start.as_bytes());
        let (status, answer) = if is("Action=AssumeRole&") {
            (200, assumed(body))
        } else if is("Action=GetCallerIdentity&") {
            (200, caller())
        } else {
            (400, "<ErrorResponse><Error><Code>InvalidAction</Code></Error></ErrorResponse>".to_owned())
        };
        let mut response = HttpResponse::new(
            status.try_into().unwrap_or_else(|_| unreachable!("a status")),
            SdkBody::from(answer),
        );
        response.headers_mut().insert("content-type", "text/xml");
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// Returns a response in the form of the STS API reference, *AssumeRole*, with the session name of the request.
fn assumed(request: &[u8]) -> String {
    let (secret, token) = ("s".repeat(40), "t".repeat(1000));
    let fields = String::from_utf8_lossy(request);
    let name = fields.split('&').find_map(|field| field.strip_prefix("RoleSessionName=")).unwrap_or_default();
    format!(
        r#"<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><Arn>arn:aws:sts::111122223333:assumed-role/app/{name}</Arn>
<AssumedRoleId>AROAEXAMPLEEXAMPLE123:{name}</AssumedRoleId></AssumedRoleUser>
<Credentials><AccessKeyId>ASIAEXAMPLEEXAMPLE12</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>
<SessionToken>{token}</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"#
    )
}

/// Returns a response in the form of the STS API reference, *GetCallerIdentity*.
fn caller() -> String {
    r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::111122223333:user/bench</Arn><UserId>AIDAEXAMPLE</UserId><Account>111122223333</Account>
</GetCallerIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"#
        .to_owned()
}
