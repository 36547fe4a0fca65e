//! Replicas with a clock that the tests move, and an API server in memory.

mod config_map; // authorities in a ConfigMap

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::certificate::{WebhookConfiguration, minimum_lifetime};
use crate::clock::ClockControl;
use crate::shutdown::Ender;
use crate::tls::TlsVersion;

const WAIT: Duration = Duration::from_secs(60);
/// Step of the clock.
const STEP: Duration = Duration::from_millis(250);
const SECRET: &str = "/api/v1/namespaces/eks/secrets/webhook";
const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/webhook";

/// Objects by path. Each write increments the version.
#[derive(Debug, Default)]
struct ApiServer {
    objects: Mutex<HashMap<String, Value>>,
}

impl ApiServer {
    fn client(self: &Arc<Self>) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                if head.uri.query().is_some_and(|query| query.contains("fieldSelector")) {
                    std::future::pending::<()>().await; // a watch without events
                }
                let body = body.collect().await.unwrap().to_bytes();
                let (status, answer) = server.answer(&head.method, head.uri.path(), &body);
                let answer = Full::new(Bytes::from(answer.to_string()));
                Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
            }
        });
        kube::Client::new(service, "eks")
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let mut objects = self.objects.lock().unwrap();
        let failure = |code: u16| {
            let reason = if code == 404 { "NotFound" } else { "Conflict" };
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "",
            });
            (code, status)
        };
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        let path = match sent["metadata"]["name"].as_str() {
            Some(name) if method == Method::POST => format!("{path}/{name}"),
            _ => path.to_owned(),
        };
        let found = objects.get(&path).cloned();
        let mut new = match (method.as_str(), found) {
            ("GET", Some(found)) => return (200, found),
            ("GET" | "PUT" | "PATCH", None) => return failure(404),
            ("POST", None) => sent,
            ("PUT" | "PATCH", Some(found))
                if found["metadata"]["resourceVersion"] != sent["metadata"]["resourceVersion"] =>
            {
                return failure(409);
            }
            ("PUT", Some(_)) => sent,
            ("PATCH", Some(mut found)) if sent["data"].is_object() => {
                let entries = sent["data"].as_object().unwrap().clone();
                if found["data"].is_null() {
                    found["data"] = json!({});
                }
                found["data"].as_object_mut().unwrap().extend(entries);
                found
            }
            ("PATCH", Some(mut found)) => {
                for (entry, patch) in found["webhooks"]
                    .as_array_mut()
                    .unwrap()
                    .iter_mut()
                    .zip(sent["webhooks"].as_array().unwrap())
                {
                    assert_eq!(entry["name"], patch["name"]);
                    entry["clientConfig"]["caBundle"] = patch["clientConfig"]["caBundle"].clone();
                }
                found
            }
            _ => return failure(409),
        };
        let version =
            new["metadata"]["resourceVersion"].as_str().map_or(0, |version| version.parse().unwrap());
        new["metadata"]["resourceVersion"] = (version + 1_u64).to_string().into();
        objects.insert(path, new.clone());
        (200, new)
    }

    /// Writes the webhook configuration, with an empty `caBundle`.
    fn configure(&self) {
        let service = json!({"service": {"namespace": "eks", "name": "webhook"}, "caBundle": ""});
        let webhook = json!({"name": "one", "clientConfig": service, "sideEffects": "None", "admissionReviewVersions": ["v1"]});
        let mut objects = self.objects.lock().unwrap();
        let version = objects.get(CONFIGURATION).map_or("1000".to_owned(), |_| "2000".to_owned());
        let object =
            json!({"metadata": {"name": "webhook", "resourceVersion": version}, "webhooks": [webhook]});
        objects.insert(CONFIGURATION.to_owned(), object);
    }

    /// Returns the number of authorities in the `caBundle`.
    fn authorities(&self) -> usize {
        let objects = self.objects.lock().unwrap();
        let bundle = objects[CONFIGURATION]["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap();
        String::from_utf8(STANDARD.decode(bundle).unwrap()).unwrap().matches("BEGIN").count()
    }

    /// Returns whether each generation is settled.
    fn settled(&self) -> Vec<bool> {
        let objects = self.objects.lock().unwrap();
        let entry = STANDARD.decode(objects[SECRET]["data"]["generations.json"].as_str().unwrap()).unwrap();
        let generations: Vec<Value> = serde_json::from_slice(&entry).unwrap();
        generations.iter().map(|one| one["settled"].as_bool().unwrap()).collect()
    }
}

struct Replica {
    readiness: Readiness,
    registry: Registry,
    tls: ServerTls,
    _ender: Ender,
}

impl Replica {
    fn start(server: &Arc<ApiServer>, clock: &Clock, random: fn() -> f64) -> Self {
        let publication = WebhookConfiguration::new(server.client(), "webhook", "eks", "webhook");
        Self::start_with(server, clock, random, publication, WAIT)
    }

    fn start_with(
        server: &Arc<ApiServer>,
        clock: &Clock,
        random: fn() -> f64,
        publication: impl Publication,
        wait: Duration,
    ) -> Self {
        let config = CertificateConfig {
            namespace: "eks".to_owned(),
            secret: "webhook".to_owned(),
            dns_name: "webhook.eks.svc".to_owned(),
            common_name: "webhook",
            lifetime: minimum_lifetime(wait),
            wait,
        };
        let (tls, readiness, mut registry) =
            (ServerTls::in_memory(TlsVersion::V1_2), Readiness::default(), Registry::default());
        let controller = CertificateController::new(
            config,
            server.client(),
            publication,
            tls.clone(),
            readiness.clone(),
            registry.sub_registry_with_prefix("webhook"),
        );
        let (ender, shutdown) = Shutdown::manual();
        tokio::spawn(controller.with_clock(clock.clone(), random).run(shutdown));
        Self { readiness, registry, tls, _ender: ender }
    }

    /// Sums the series of a counter whose labels contain a text.
    fn count(&self, counter: &str, label: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let series = text.lines().filter(|line| line.starts_with(counter) && line.contains(label));
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

fn steps(replicas: &[Replica], label: &str) -> u64 {
    replicas.iter().map(|replica| replica.count("webhook_certificate_steps_total", label)).sum()
}

async fn pass(hand: &ClockControl, time: Duration) {
    for _ in 0..time.as_millis() / STEP.as_millis() {
        hand.advance(STEP);
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
}

fn clock() -> (ClockControl, Clock) {
    Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000))
}

/// Starts five replicas at once, and plays five rotations.
async fn rotate(random: [fn() -> f64; 5]) -> Vec<Replica> {
    let (server, (hand, clock)) = (Arc::new(ApiServer::default()), clock());
    server.configure();
    let replicas = random.map(|random| Replica::start(&server, &clock, random));
    pass(&hand, 2 * WAIT).await;
    assert_eq!(server.settled(), [true]);
    for _ in 0..4 {
        pass(&hand, minimum_lifetime(WAIT) * 2 / 3).await;
    }
    pass(&hand, 2 * WAIT + Duration::from_secs(20)).await;
    assert_eq!(server.settled(), [true; KEPT]);
    assert_eq!(server.authorities(), 1, "the earlier generations have expired");
    for replica in &replicas {
        assert_eq!(replica.readiness.missing(), []);
        assert_eq!(replica.tls.validity(), replicas[0].tls.validity());
        // With the minimum lifetime a certificate is replaced a few seconds after five sixths of its life.
        let failures = |reason: &str| replica.count("webhook_certificate_failures_total", reason);
        assert_eq!(failures(""), failures("overdue"));
    }
    replicas.into()
}

#[tokio::test]
async fn replicas_with_different_delays_rotate_with_few_conflicts() {
    let replicas = rotate([|| 0.0, || 0.25, || 0.5, || 0.75, || 1.0]).await;
    let ok = |step: &str| steps(&replicas, &format!("step=\"{step}\",outcome=\"ok\""));
    assert_eq!((ok("make"), ok("publish"), ok("settle"), ok("repair")), (5, 5, 5, 0));
    assert!(ok("trim") >= 1);
    let conflicts = steps(&replicas, "conflict"); // at the start, all replicas find that there is no certificate
    assert!(conflicts <= 4, "{conflicts} conflicts");
    assert_eq!(steps(&replicas, "error"), 0);
}

#[tokio::test]
async fn of_replicas_that_write_at_once_one_succeeds_and_the_others_go_on() {
    let replicas = rotate([|| 0.5; 5]).await;
    let ok = |step: &str| steps(&replicas, &format!("step=\"{step}\",outcome=\"ok\""));
    assert_eq!((ok("make"), ok("publish"), ok("settle")), (5, 5, 5));
    let conflicts = steps(&replicas, "conflict");
    let taken = steps(&replicas, "ok");
    assert!(conflicts > 0 && conflicts <= 4 * taken, "{conflicts} conflicts, {taken} steps");
    assert_eq!(steps(&replicas, "error"), 0);
}

#[tokio::test]
async fn repairs_an_overwritten_bundle_without_the_delay() {
    let (server, (hand, clock)) = (Arc::new(ApiServer::default()), clock());
    server.configure();
    let replica = Replica::start(&server, &clock, || 1.0);
    pass(&hand, 2 * WAIT).await;
    assert_eq!((server.settled(), server.authorities()), (vec![true], 1));
    server.configure();
    assert_eq!(server.authorities(), 0);
    // The watch of this API server is silent.
    pass(&hand, TICK + STEP).await;
    assert_eq!(server.authorities(), 1);
    assert_eq!(steps(&[replica], "repair"), 1);
}

#[tokio::test]
async fn reports_overdue_if_nothing_fails_and_the_certificate_is_not_replaced() {
    let (server, (hand, clock)) = (Arc::new(ApiServer::default()), clock());
    let replica = Replica::start(&server, &clock, || 0.0);
    let lifetime = minimum_lifetime(WAIT);
    pass(&hand, lifetime * 4 / 5).await;
    assert_eq!(replica.count("webhook_certificate_failures_total", ""), 0);
    let missing = replica.readiness.missing();
    assert!(missing[0].1.contains("no MutatingWebhookConfiguration webhook"), "{missing:?}");
    pass(&hand, lifetime / 10).await;
    assert!(replica.count("webhook_certificate_failures_total", "overdue") > 0);
}
