//! The webhook is replaced, and its certificate too, while pods are created.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use testing::cluster::{Cluster, service_account};
use testing::eventually::eventually;
use tokio::task::JoinSet;

use super::injection::{ROLE, ROLE_ANNOTATION};
use super::installation::{Installation, Plan};
use super::pods::{create, is_injected, pod};

const WORKERS: usize = 8;
const PODS: usize = 500;

#[test]
fn no_pod_is_missed_while_replicas_and_certificates_are_replaced() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let plan = Plan { replicas: 2, ..Plan::new("restart") }.argument("--shutdown-delay=3");
        let mut installed = Installation::start(cluster, plan.argument("--certificate-wait=1")).await;
        let creation = Creation::start(&installed).await;
        for number in [0, 1] {
            let before = installed.ca_bundle().await;
            installed.age_certificate().await;
            // In the midst of it: who leads the rotation may be the one that goes.
            replace(&mut installed, number).await;
            eventually("a new authority", async || (installed.ca_bundle().await != before).then_some(()))
                .await;
        }
        creation.end(cluster, "two replicas and two certificates replaced").await;
    });
}

/// As a rolling update of the Deployment does it: the new one is ready before the old one goes.
async fn replace(installed: &mut Installation, number: usize) {
    let new = installed.replica();
    new.ready().await;
    let old = std::mem::replace(&mut installed.replicas[number], new);
    // Kubelet ends the pod, and its endpoint goes, at the same time: nobody orders the two.
    old.terminate();
    installed.route().await;
    let status = old.ended().await;
    assert!(status.success(), "{status}");
}

/// Pods, created until this ends, and at least [`PODS`].
struct Creation {
    namespace: String,
    tasks: JoinSet<usize>,
    created: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
}

impl Creation {
    async fn start(installed: &Installation) -> Self {
        let namespace = installed.namespace("shop", &[]).await;
        service_account(&installed.client, &namespace, "cart", &[(ROLE_ANNOTATION, ROLE)]).await;
        let (created, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for _ in 0..WORKERS {
            let (client, namespace) = (installed.client.clone(), namespace.clone());
            let (created, enough) = (created.clone(), enough.clone());
            tasks.spawn(async move {
                let mut missed = 0;
                while created.load(Ordering::Relaxed) < PODS || !enough.load(Ordering::Relaxed) {
                    let name = format!("cart-{}", created.fetch_add(1, Ordering::Relaxed));
                    let pod = create(&client, &namespace, pod(&name, "cart")).await.unwrap();
                    missed += usize::from(!is_injected(&pod));
                }
                missed
            });
        }
        Self { namespace, tasks, created, enough }
    }

    /// None was missed. What the API server says of a call that failed is in its log.
    async fn end(mut self, cluster: &Cluster, what: &str) {
        self.enough.store(true, Ordering::Relaxed);
        let mut missed = 0;
        while let Some(of_one) = self.tasks.join_next().await {
            missed += of_one.unwrap();
        }
        let pods = self.created.load(Ordering::Relaxed);
        eprintln!("{what}: {pods} pods, {missed} missed");
        assert!(pods >= PODS);
        let log = cluster.api_log();
        let service = format!(".pod-identity-{}.svc", self.namespace.trim_end_matches("-shop"));
        let failed: Vec<_> = log.lines().filter(|line| line.contains(&service)).collect();
        assert_eq!(missed, 0, "{failed:#?}");
    }
}
