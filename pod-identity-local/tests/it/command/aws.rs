//! The command `aws`, with a token and the keys of a real API server.

use std::process::Stdio;

use aws_sdk_sts::config::{BehaviorVersion, Credentials, Region};
use pod_identity_runtime::outbound::Outbound;
use testing::cluster::{Cluster, ISSUER, namespace, service_account, token};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::child::end;
use super::{TIME_LIMIT, local};

const FILE: &str = r#"
accounts: ["111122223333"]
callers:
  - accessKeyId: AKIAAUTH000000000000
    secretAccessKey: the-secret-of-auth
    principal: {role: "arn:aws:iam::111122223333:role/auth", sessionName: auth}
roles:
  - arn: arn:aws:iam::111122223333:role/auth
    trust: {Statement: {Effect: Allow, Principal: {AWS: "111122223333"}, Action: "sts:AssumeRole"}}
  - arn: arn:aws:iam::111122223333:role/app
    trust:
      Version: "2012-10-17"
      Statement:
        Effect: Allow
        Principal: {Federated: "arn:aws:iam::111122223333:oidc-provider/172.30.0.1"}
        Action: "sts:AssumeRoleWithWebIdentity"
        Condition: {StringEquals: {"172.30.0.1:sub": "system:serviceaccount:aws:app"}}
oidcProviders:
  - {account: "111122223333", url: "https://172.30.0.1", clientIds: [sts.amazonaws.com]}
"#;

#[test]
fn serves_sts_for_the_tokens_of_a_real_api_server() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let client = cluster.client().await;
        namespace(&client, "aws", &[]).await;
        for name in ["app", "other", "reader"] {
            service_account(&client, "aws", name, &[]).await;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(path("aws.yaml"), FILE).unwrap();
        // Every service account may read the keys: ClusterRole system:service-account-issuer-discovery.
        let reader = token(&client, "aws", "reader", None, &[ISSUER], 3600).await;
        std::fs::write(path("token"), reader).unwrap();
        let mut command = local(&["aws", "--listen", "127.0.0.1:0", "--issuer", ISSUER]);
        command.args(["--file", &path("aws.yaml"), "--ca-file", &path("ca.pem")]);
        command.args(["--ready-file", &path("ready"), "--jwks-token-file", &path("token")]);
        command.args(["--jwks-url", &format!("{ISSUER}/openid/v1/jwks")]);
        command.arg("--jwks-ca-file").arg(cluster.ca_file());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line =
                tokio::time::timeout(TIME_LIMIT, lines.next_line()).await.expect("it is ready in time");
            if line.unwrap().expect("it keeps running").starts_with("ready: ") {
                break;
            }
        }
        let mut url = String::new();
        while url.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            url = std::fs::read_to_string(path("ready")).unwrap_or_default().trim().to_owned();
        }
        assert!(url.starts_with("https://127.0.0.1:"), "{url}");
        let outbound = Outbound { ca_file: Some(path("ca.pem").into()), ..Outbound::default() };
        let config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .http_client(outbound.sdk_client(Some(&url)).unwrap())
            .credentials_provider(Credentials::new(
                "AKIAAUTH000000000000",
                "the-secret-of-auth",
                None,
                None,
                "test",
            ))
            .endpoint_url(url);
        let sts = aws_sdk_sts::Client::from_conf(config.build());
        let caller = sts.get_caller_identity().send().await.unwrap();
        assert_eq!(caller.arn(), Some("arn:aws:sts::111122223333:assumed-role/auth/auth"));
        let assume = async |account: &str| {
            let token = token(&client, "aws", account, None, &["sts.amazonaws.com"], 3600).await;
            let call =
                sts.assume_role_with_web_identity().role_session_name("test").web_identity_token(token);
            call.role_arn("arn:aws:iam::111122223333:role/app").send().await
        };
        assert!(assume("app").await.unwrap().credentials().is_some());
        let refused = assume("other").await.unwrap_err().into_service_error();
        assert_eq!(refused.meta().code(), Some("AccessDenied"), "{refused:?}");
        assert_eq!(end(child, "TERM").await, Some(0));
    });
}
