//! Something is said of an account, and the next call creates a pod: what was said counts.
//!
//! With `--service-account-read=cache`, which is how AWS's webhook works, the same calls in the same run show
//! that they are quick enough to miss what only comes by watch.

use std::fmt;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use testing::cluster::{Cluster, service_account};
use tokio::sync::Mutex;

use super::injection::{ROLE, ROLE_ANNOTATION};
use super::installation::{Installation, Plan};
use super::pods::{FULL_URI, ROLE_ARN, create, is_injected, pod, variable};

const OTHER_ROLE: &str = "arn:aws:iam::111122223333:role/other";
const WORKERS: usize = 8;

/// In every run. `#[ignore]`d: 300.
const FEW: usize = 40;
/// How often what AWS's webhook does is tried until it shows.
const ROUNDS: usize = 10;
const ORDERS: [Order; 4] = [Order::New, Order::Annotated, Order::Changed, Order::Anew];

#[test]
fn what_was_said_just_before_a_pod_counts() {
    compare(FEW);
}

#[test]
#[ignore = "3,000 pods: a minute and more"]
fn what_was_said_just_before_a_pod_counts_300_times() {
    compare(300);
}

fn compare(count: usize) {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async move || {
        let fresh = Installation::start(cluster, Plan::new("fresh")).await;
        for order in ORDERS {
            let tally = run(&fresh, order, 0, count).await;
            eprintln!("each account read: {order:?}: {tally}");
            assert_eq!((tally.pods, tally.missed, tally.stale), (count, 0, 0), "{order:?}");
        }
        let plan = Plan::new("cache").argument("--service-account-read=cache");
        let cache = Installation::start(cluster, plan).await;
        let mut wrong = 0;
        // Where the watch has won every time, no race was run, and nothing was shown.
        for round in 0..ROUNDS {
            for order in ORDERS {
                let tally = run(&cache, order, round, count).await;
                eprintln!("as the watch has it: {order:?}: {tally}");
                wrong += tally.missed + tally.stale;
            }
            if wrong > 0 {
                return;
            }
        }
        panic!("the watch was quicker each time");
    });
}

/// What is said, and then a pod created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// An account with a role is made.
    New,
    /// An account gets a role.
    Annotated,
    /// An account gets another role.
    Changed,
    /// An account is deleted, and made anew with another role.
    Anew,
}

#[derive(Debug, Default)]
struct Tally {
    pods: usize,
    missed: usize,
    stale: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pods, {} missed, {} with the role of before", self.pods, self.missed, self.stale)
    }
}

async fn run(installed: &Installation, order: Order, round: usize, count: usize) -> Tally {
    let namespace = installed.namespace(&format!("{order:?}-{round}").to_lowercase(), &[]).await;
    let pods = (0..count).map(|number| {
        let (client, namespace) = (installed.client.clone(), namespace.clone());
        async move { order.carry_out(&client, &namespace, &format!("app-{number}")).await }
    });
    let mut tally = Tally::default();
    let mut roles = stream::iter(pods).buffer_unordered(WORKERS);
    while let Some(role) = roles.next().await {
        tally.pods += 1;
        tally.missed += usize::from(role.is_none());
        tally.stale += usize::from(role.is_some_and(|role| role != ROLE));
    }
    tally
}

impl Order {
    /// The role that the pod has; the right one is [`ROLE`].
    async fn carry_out(self, client: &Client, namespace: &str, name: &str) -> Option<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let before: &[_] = match self {
            Self::New => &[(ROLE_ANNOTATION, ROLE)],
            Self::Annotated => &[],
            Self::Changed | Self::Anew => &[(ROLE_ANNOTATION, OTHER_ROLE)],
        };
        service_account(client, namespace, name, before).await;
        match self {
            Self::New => {}
            Self::Annotated | Self::Changed => {
                let patch = json!({"metadata": {"annotations": {ROLE_ANNOTATION: ROLE}}});
                accounts.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
            }
            Self::Anew => {
                accounts.delete(name, &DeleteParams::default()).await.unwrap();
                service_account(client, namespace, name, &[(ROLE_ANNOTATION, ROLE)]).await;
            }
        }
        let pod = create(client, namespace, pod(name, name)).await.unwrap();
        is_injected(&pod).then(|| variable(&pod, ROLE_ARN).unwrap().to_owned())
    }
}

#[test]
fn an_association_made_just_before_a_pod_counts() {
    associate(FEW);
}

#[test]
#[ignore = "with the other sequences"]
fn an_association_made_just_before_a_pod_counts_300_times() {
    associate(300);
}

fn associate(count: usize) {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async move || {
        let directory = tempfile::tempdir().unwrap();
        let file = Associations::new(directory.path());
        let arguments = [format!("--associations={}", file.path.display()), "--cluster-name=demo".to_owned()];
        let plan = arguments.into_iter().fold(Plan::new("associated"), Plan::argument);
        let installed = Installation::start(cluster, plan).await;
        let namespace = installed.namespace("shop", &[]).await;
        let pods = (0..count).map(|number| {
            let (client, namespace, file, name) =
                (&installed.client, &namespace, &file, format!("app-{number}"));
            async move {
                service_account(client, namespace, &name, &[]).await;
                file.add(namespace, &name).await;
                let pod = create(client, namespace, pod(&name, &name)).await.unwrap();
                is_injected(&pod) && variable(&pod, FULL_URI).is_some()
            }
        });
        let injected: Vec<_> = stream::iter(pods).buffer_unordered(WORKERS).collect().await;
        let missed = injected.iter().filter(|&&injected| !injected).count();
        eprintln!("association: {count} pods, {missed} missed");
        assert_eq!((injected.len(), missed), (count, 0));
    });
}

/// The file of associations, as its owner writes it: a new one takes the place of the old one.
struct Associations {
    path: PathBuf,
    content: Mutex<Value>,
}

impl Associations {
    fn new(directory: &Path) -> Self {
        let clusters = json!([{"name": "demo", "issuer": testing::cluster::ISSUER}]);
        let content = json!({"clusters": clusters, "associations": []});
        let file = Self { path: directory.join("associations.yaml"), content: Mutex::new(Value::Null) };
        file.write(&content);
        Self { content: Mutex::new(content), ..file }
    }

    async fn add(&self, namespace: &str, account: &str) {
        let mut content = self.content.lock().await;
        let association = json!({
            "clusterName": "demo", "namespace": namespace, "serviceAccount": account, "roleArn": ROLE,
        });
        content["associations"].as_array_mut().unwrap().push(association);
        self.write(&content);
    }

    fn write(&self, content: &Value) {
        let draft = self.path.with_extension("draft");
        std::fs::write(&draft, content.to_string()).unwrap();
        std::fs::rename(&draft, &self.path).unwrap();
    }
}
