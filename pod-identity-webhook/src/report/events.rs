//! Kubernetes Events: `kubectl describe pod` shows them.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use pod_identity_runtime::cause::chain;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use super::counters::Counters;
use super::finding::Finding;

/// Maximum number of Events that wait to be written.
const QUEUE: usize = 256;
/// Maximum size of an Event's note in bytes (kubernetes `pkg/apis/core/validation/events.go`: `NoteLengthLimit`).
const MAX_NOTE: usize = 1024;
/// Maximum time to write one Event.
const LIMIT: Duration = Duration::from_secs(5);
/// The reporting controller of the Events.
const CONTROLLER: &str = "pod-identity-webhook";
/// The reason of the Events.
const REASON: &str = "PodIdentityLacking";

const WRITTEN: &str = "written";
const FAILED: &str = "failed";
const DROPPED: &str = "dropped";

/// Takes findings for Events, without waiting for the API server.
#[derive(Debug)]
pub(super) struct EventQueue {
    queue: mpsc::Sender<(ObjectReference, String)>,
    metrics: Counters,
}

/// Writes the Events in the queue.
pub(super) struct EventWriter {
    recorder: Recorder,
    queue: mpsc::Receiver<(ObjectReference, String)>,
    metrics: Counters,
}

/// Creates the queue and its writer, and registers `pod_identity_webhook_events_total`. `pod` is the name of this
/// program's pod.
pub(super) fn channel(
    client: kube::Client,
    pod: Option<String>,
    registry: &mut Registry,
) -> (EventQueue, EventWriter) {
    let outcomes = [WRITTEN, FAILED, DROPPED];
    let help = "Kubernetes Events, by outcome";
    let metrics = Counters::register(registry, "pod_identity_webhook_events", help, "outcome", outcomes);
    let (sender, queue) = mpsc::channel(QUEUE);
    let recorder = Recorder::new(client, Reporter { controller: CONTROLLER.to_owned(), instance: pod });
    (EventQueue { queue: sender, metrics: metrics.clone() }, EventWriter { recorder, queue, metrics })
}

impl EventQueue {
    /// Queues an Event about a finding and logs the finding. Returns `false` if the queue is full.
    pub(super) fn send(&self, finding: &Finding) -> bool {
        let mut note = finding.message.clone();
        note.truncate(note.floor_char_boundary(MAX_NOTE));
        if self.queue.try_send((finding.object(), note)).is_err() {
            self.metrics.increment(DROPPED);
            return false;
        }
        let Finding { namespace, pod, service_account, reason, message, .. } = finding;
        tracing::warn!(namespace, pod, service_account, reason, "{message}");
        true
    }
}

impl EventWriter {
    /// Writes Events until the shutdown.
    pub(super) async fn follow(mut self, mut shutdown: Shutdown) {
        let write = async {
            while let Some((regarding, note)) = self.queue.recv().await {
                let outcome = self.write(&regarding, note).await;
                self.metrics.increment(outcome);
            }
        };
        tokio::select! {
            () = write => {}
            () = shutdown.asked() => {}
        }
    }

    async fn write(&self, regarding: &ObjectReference, note: String) -> &'static str {
        let event = Event {
            type_: EventType::Warning,
            reason: REASON.to_owned(),
            note: Some(note),
            action: "Inject".to_owned(),
            secondary: None,
        };
        let error = match tokio::time::timeout(LIMIT, self.recorder.publish(&event, regarding)).await {
            Ok(Ok(())) => return WRITTEN,
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {} s", LIMIT.as_secs()),
        };
        let (namespace, pod) = (regarding.namespace.as_deref(), regarding.name.as_deref());
        tracing::warn!(
            error,
            namespace,
            pod,
            "a Kubernetes Event was not written: it needs create and patch of events in events.k8s.io"
        );
        FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::NOT_INJECTED;
    use super::*;

    fn queue(registry: &mut Registry) -> (EventQueue, mpsc::Receiver<(ObjectReference, String)>) {
        let metrics = Counters::register(registry, "events", "Events", "outcome", [DROPPED]);
        let (queue, receiver) = mpsc::channel(QUEUE);
        (EventQueue { queue, metrics }, receiver)
    }

    fn finding(message: String) -> Finding {
        Finding {
            namespace: "shop".to_owned(),
            pod: "cart-1".to_owned(),
            uid: "1".to_owned(),
            service_account: "cart".to_owned(),
            reason: NOT_INJECTED,
            message,
        }
    }

    #[test]
    fn a_burst_beyond_the_queue_is_counted_and_blocks_nothing() {
        let mut registry = Registry::default();
        let (queue, mut waiting) = queue(&mut registry);
        let accepted = (0..QUEUE + 3).filter(|number| queue.send(&finding(number.to_string()))).count();
        assert_eq!(accepted, QUEUE);
        let mut metrics = String::new();
        prometheus_client::encoding::text::encode(&mut metrics, &registry).unwrap();
        assert!(metrics.contains("events_total{outcome=\"dropped\"} 3\n"), "{metrics}");
        let kept = std::iter::from_fn(|| waiting.try_recv().ok()).count();
        assert_eq!(kept, QUEUE);
    }

    #[test]
    fn a_note_is_as_long_as_the_api_server_accepts_and_ends_with_a_whole_character() {
        let (queue, mut waiting) = queue(&mut Registry::default());
        queue.send(&finding("é".repeat(MAX_NOTE)));
        queue.send(&finding(format!("a{}", "é".repeat(MAX_NOTE))));
        let lengths = std::iter::from_fn(|| waiting.try_recv().ok()).map(|(_, note)| note.len());
        assert_eq!(lengths.collect::<Vec<_>>(), [1024, 1023]);
    }
}
