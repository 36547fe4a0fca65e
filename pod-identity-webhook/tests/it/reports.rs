//! The subcommand `report`: running pods that lack an injection, with and without a real API server.

#[cfg(target_os = "linux")]
mod cluster; // on a real API server

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use pod_identity_runtime::clock::monotonic;
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use pod_identity_runtime::tasks::TaskFailure;
use pod_identity_webhook::args::parse;
use pod_identity_webhook::report::Report;
use serde_json::Value;
use testing::eventually::eventually;
use testing::wire::{Answer, ask};
use tokio::task::JoinHandle;

use crate::metrics::{listed, said};

/// A running report. It ends with the test.
struct Running {
    admin: SocketAddr,
    shutdown: Ender,
    running: JoinHandle<Result<(), TaskFailure>>,
}

impl Running {
    async fn start(interval: Duration, flags: &[&str]) -> Self {
        testing::logs::capture();
        let flags = [&["webhook", "report", "--metrics-port=0"], flags].concat();
        let report = Report::bind(parse(flags).unwrap().config().unwrap(), interval).await.unwrap();
        let admin = (Ipv4Addr::LOCALHOST, report.admin_address().unwrap().port()).into();
        let (shutdown, ending) = Shutdown::manual();
        Self { admin, shutdown, running: tokio::spawn(report.run(ending)) }
    }

    async fn get(&self, path: &str) -> Answer {
        ask(self.admin, &format!("GET {path}"), &[], b"").await.unwrap()
    }

    /// The value of a metric, written as in the exposition.
    async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// Ends it, and checks that it ends in time.
    async fn end(self) {
        let asked = monotonic();
        self.shutdown.end();
        tokio::time::timeout(Duration::from_secs(5), self.running).await.unwrap().unwrap().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(2), "after {:?}", asked.elapsed());
    }
}

/// The reason of each pod of a namespace in the list; `None` before the first complete reading.
async fn found(admin: SocketAddr, namespace: &str) -> Option<BTreeMap<String, String>> {
    let answer = ask(admin, "GET /uninjected-pods", &[], b"").await.ok()?;
    if answer.status == 503 {
        assert_eq!(answer.json()["code"], "not_read");
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let page = answer.json();
    // The list is the cluster's: other tests leave pods that lack something, too.
    let ours = page["pods"].as_array().unwrap().iter().filter(|pod| pod["namespace"] == namespace);
    Some(ours.map(|pod| (text(&pod["pod"]), text(&pod["reason"]))).collect())
}

async fn finds(admin: SocketAddr, namespace: &str, what: &str, expected: &[(&str, &str)]) {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|&(pod, reason)| (pod.to_owned(), reason.to_owned())).collect();
    eventually(what, async || (found(admin, namespace).await.as_ref() == Some(&expected)).then_some(()))
        .await;
}

#[tokio::test]
async fn without_an_api_server_it_counts_failed_readings_is_not_ready_and_ends_in_time() {
    // Nobody listens there.
    let report = Running::start(Duration::from_millis(10), &["--kube-api=http://127.0.0.1:9"]).await;
    eventually("readings are retried", async || {
        let failed = report.metric("pod_identity_webhook_readings_total{result=\"failed\"}").await;
        (failed >= Some(3.0)).then_some(())
    })
    .await;
    assert_eq!(report.metric("pod_identity_webhook_readings_total{result=\"ok\"}").await, Some(0.0));
    assert_eq!(report.metric("pod_identity_webhook_last_reading_seconds").await, Some(0.0));
    let not_ready = report.get("/readyz").await;
    assert!(not_ready.status == 503 && not_ready.text().contains("report: "), "{}", not_ready.text());
    assert_eq!(report.get("/healthz").await.status, 200);
    assert_eq!(found(report.admin, "shop").await, None);
    report.end().await;
}

#[tokio::test]
async fn a_list_that_the_api_server_never_answers_does_not_delay_the_end() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("--kube-api=http://{}", silent.local_addr().unwrap());
    let report = Running::start(Duration::from_secs(30), &[&url]).await;
    let _connection = silent.accept().await.unwrap();
    report.end().await;
}

/// Checks that the page of metrics lists what the report serves, and nothing else.
fn assert_page_lists(metrics: &str) {
    let sections = ["Every program", "The webhook's reports"];
    let listed = sections.iter().fold(BTreeSet::new(), |all, name| &all | &listed(name));
    assert_eq!(said(metrics), listed);
}
