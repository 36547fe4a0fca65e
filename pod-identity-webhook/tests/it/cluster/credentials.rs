//! The whole way: a pod as the webhook leaves it, its token as kubelet gets it, credentials by auth service and
//! agent, a call by boto3. AWS's STS is what is not real.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use pod_identity_agent::config::{AgentAuth, EksAuthConfig};
use pod_identity_local::fixture::Fixture;
use pod_identity_local::services::{AuthPrincipal, LocalConfig, LocalServices};
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use serde_json::json;
use testing::cluster::{self, Cluster, ISSUER, apply, service_account, token};
use testing::sdk::Python;

use super::installation::{Installation, Plan};
use super::pods::{containers, create, is_injected, pod};

const WORLD: &str = r#"
accounts: ["111122223333"]
callers:
  - accessKeyId: ASIABROKER0000000000
    secretAccessKey: broker-secret-broker-secret
    principal: {role: "arn:aws:iam::111122223333:role/pod-identity-auth", sessionName: auth}
roles:
  - arn: arn:aws:iam::111122223333:role/pod-identity-auth
    trust: {Statement: {Effect: Allow, Principal: {Service: ec2.amazonaws.com}, Action: "sts:AssumeRole"}}
    permissions: {Statement: {Effect: Allow, Action: "sts:*", Resource: "*"}}
  - arn: arn:aws:iam::111122223333:role/cart
    trust:
      Statement:
        Effect: Allow
        Principal: {AWS: "arn:aws:iam::111122223333:role/pod-identity-auth"}
        Action: ["sts:AssumeRole", "sts:TagSession"]
        Condition: {StringEquals: {"aws:RequestTag/kubernetes-service-account": cart}}
clusters:
  - {name: laptop, issuer: "https://laptop.example.com"}
"#;

/// The API server's keys, for anybody: <https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery>.
const KEYS_FOR_ALL: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: keys-for-all}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:service-account-issuer-discovery'}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:unauthenticated'}]
";

#[test]
fn boto3_in_a_pod_has_the_credentials_of_its_association() {
    let Some(cluster) = Cluster::shared() else { return };
    let Some(python) = Python::ready() else { return };
    cluster.run(async || {
        let directory = tempfile::tempdir().unwrap();
        let associations = directory.path().join("associations.yaml");
        let association = json!({
            "clusterName": "demo", "namespace": "path-shop", "serviceAccount": "cart",
            "roleArn": "arn:aws:iam::111122223333:role/cart",
        });
        let demo = json!({"name": "demo", "issuer": ISSUER, "caFile": cluster.ca_file()});
        let file = json!({"clusters": [demo], "associations": [association]});
        std::fs::write(&associations, file.to_string()).unwrap();

        // Who has an association, the webhook and the auth service read in the same file.
        let plan = Plan::new("path").argument(format!("--associations={}", associations.display()));
        let plan = plan.argument("--cluster-name=demo").argument("--aws-default-region=eu-west-1");
        let installed = Installation::start(cluster, plan).await;
        apply(&installed.client, KEYS_FOR_ALL).await;
        let setup = LocalConfig { principal: AuthPrincipal::IamRole, ..LocalConfig::default() };
        let laptop = LocalServices::start(Fixture::from_yaml(WORLD).unwrap(), setup).await.unwrap();
        let (auth, _auth_ender) = auth(&associations, &laptop.sts_url()).await;
        let _agent_ender = agent(auth).await;

        let namespace = installed.namespace("shop", &[]).await;
        service_account(&installed.client, &namespace, "cart", &[]).await;
        let pod = create(&installed.client, &namespace, pod("cart-1", "cart")).await.unwrap();
        assert!(is_injected(&pod), "{pod:?}");
        let mut variables = container(&installed.client, &pod, directory.path()).await;
        variables.push(("AWS_ENDPOINT_URL_STS".to_owned(), laptop.sts_url()));
        let answer = tokio::task::spawn_blocking(move || {
            let variables: Vec<_> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
            python.script("boto3_get_caller_identity.py", &[], &variables).json()
        });
        let answer = answer.await.unwrap();
        let arn = answer["arn"].as_str().unwrap();
        assert!(arn.starts_with("arn:aws:sts::111122223333:assumed-role/cart/eks-demo-cart-1-"), "{arn}");
    });
}

/// What kubelet does for the pod's container: tokens as the volumes ask for them, and the variables. The
/// paths are those of the container, so they are moved below a directory.
async fn container(client: &Client, pod: &Pod, root: &Path) -> Vec<(String, String)> {
    let spec = pod.spec.as_ref().unwrap();
    let account = spec.service_account_name.as_deref().unwrap();
    let container = &containers(pod)[0];
    for volume in spec.volumes.iter().flatten() {
        let Some(projected) = &volume.projected else { continue };
        let sources = projected.sources.iter().flatten();
        for source in sources.filter_map(|source| source.service_account_token.as_ref()) {
            let Some(audience) = &source.audience else { continue }; // that for the API server
            let seconds = source.expiration_seconds.unwrap();
            let namespace = pod.namespace().unwrap();
            let token = token(client, &namespace, account, Some(pod), &[audience.as_str()], seconds).await;
            let mount = container.volume_mounts.iter().flatten().find(|mount| mount.name == volume.name);
            let directory = below(root, &mount.unwrap().mount_path);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(Path::new(&directory).join(&source.path), token).unwrap();
        }
    }
    let variables = container.env.iter().flatten().map(|variable| {
        let value = variable.value.clone().unwrap();
        let value = if value.starts_with('/') { below(root, &value) } else { value };
        (variable.name.clone(), value)
    });
    variables.collect()
}

fn below(root: &Path, path: &str) -> String {
    format!("{}{path}", root.display())
}

async fn auth(associations: &Path, sts_url: &str) -> (SocketAddr, Ender) {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let config = pod_identity_auth::config::Config::new(listen, associations.to_owned());
    let sts = sdk("ASIABROKER0000000000", "broker-secret-broker-secret").to_builder().endpoint_url(sts_url);
    let app = pod_identity_auth::app::App::bind(config, pod_identity_auth::sts::client(&sts.build())).await;
    let app = app.unwrap();
    let (ender, shutdown) = Shutdown::manual();
    let address = app.address().unwrap();
    tokio::spawn(app.run(shutdown));
    (address, ender)
}

/// Where every pod's variables say that it is.
async fn agent(auth: SocketAddr) -> Ender {
    let eks_auth = EksAuthConfig {
        endpoint: Some(format!("http://{auth}")),
        agent_auth: AgentAuth::SigV4,
        outbound: Outbound::default(),
        sdk_config: Some(sdk("AKIAAGENT00000000000", "agent-secret-agent-secret")),
    };
    let listen = vec![SocketAddr::from((cluster::AGENT_ADDRESS, 80))];
    let config = pod_identity_agent::config::Config::new("demo".parse().unwrap(), listen, eks_auth);
    let app = pod_identity_agent::app::App::bind(config).await.unwrap();
    let (ender, shutdown) = Shutdown::manual();
    tokio::spawn(app.run(shutdown));
    ender
}

fn sdk(access_key_id: &str, secret_access_key: &str) -> SdkConfig {
    let credentials = Credentials::new(access_key_id, secret_access_key, None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .http_client(Outbound::default().sdk_client(Some("http://127.0.0.1")).unwrap())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .build()
}
