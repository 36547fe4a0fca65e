//! Kubernetes Events: what `kubectl describe` shows of a pod.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

/// Events that wait to be written. A burst beyond it is counted, and said by the log alone.
const WAITING: usize = 256;
/// The most bytes of an Event's note (kubernetes `pkg/apis/core/validation/events.go`: `NoteLengthLimit`).
const LONGEST_NOTE: usize = 1024;
/// How long writing one may take. Nobody waits for it but the next ones.
const LIMIT: Duration = Duration::from_secs(5);
/// Who the Events say they are from.
const CONTROLLER: &str = "pod-identity-webhook";

const WRITTEN: &str = "written";
const FAILED: &str = "failed";
const DROPPED: &str = "dropped";

/// What an Event says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    /// The object that it is about.
    pub(super) regarding: ObjectReference,
    /// Its reason, a word of camel case: what people filter by.
    pub(super) reason: &'static str,
    /// A sentence with cause and fix.
    pub(super) note: String,
}

/// Takes Events to be written, without waiting for the API server. Clones write to the same.
#[derive(Debug, Clone)]
pub(super) struct Events {
    waiting: mpsc::Sender<Said>,
    metrics: Metrics,
}

/// Writes the Events that [`Events`] takes.
pub(super) struct EventWriter {
    recorder: Recorder,
    waiting: mpsc::Receiver<Said>,
    metrics: Metrics,
}

impl fmt::Debug for EventWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventWriter").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

type Metrics = Family<Outcome, Counter>;

impl Events {
    /// A new one, with what it takes, and the metric `pod_identity_webhook_events_total`.
    pub(super) fn channel(registry: &mut Registry) -> (Self, mpsc::Receiver<Said>) {
        let metrics = Metrics::default();
        registry.register(
            "pod_identity_webhook_events",
            "Kubernetes Events by what became of them",
            metrics.clone(),
        );
        for outcome in [WRITTEN, FAILED, DROPPED] {
            drop(metrics.get_or_create(&Outcome { outcome }));
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { waiting: sender, metrics }, receiver)
    }

    /// Has it written, sooner or later. Nothing that is said waits for that.
    pub(super) fn say(&self, mut said: Said) {
        said.note.truncate(said.note.floor_char_boundary(LONGEST_NOTE));
        if self.waiting.try_send(said).is_err() {
            self.metrics.get_or_create(&Outcome { outcome: DROPPED }).inc();
        }
    }
}

impl EventWriter {
    /// Writes them for the replica in that pod.
    pub(super) fn new(
        client: kube::Client,
        pod: String,
        waiting: mpsc::Receiver<Said>,
        events: &Events,
    ) -> Self {
        let instance = Some(pod).filter(|pod| !pod.is_empty());
        let recorder = Recorder::new(client, Reporter { controller: CONTROLLER.to_owned(), instance });
        Self { recorder, waiting, metrics: events.metrics.clone() }
    }

    /// Writes until the end, and then what still waits. What is said again within six minutes is counted in the
    /// Event that is there, and is no new one.
    pub(super) async fn follow(mut self, mut end: Shutdown) {
        loop {
            tokio::select! {
                () = end.asked() => break,
                said = self.waiting.recv() => match said {
                    Some(said) => self.write(said).await,
                    None => return,
                }
            }
        }
        while let Ok(said) = self.waiting.try_recv() {
            self.write(said).await;
        }
    }

    async fn write(&self, said: Said) {
        let outcome = match tokio::time::timeout(LIMIT, self.publish(said)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                tracing::warn!(seconds = LIMIT.as_secs(), "a Kubernetes Event was not written: no answer");
                FAILED
            }
        };
        self.metrics.get_or_create(&Outcome { outcome }).inc();
    }

    async fn publish(&self, Said { regarding, reason, note }: Said) -> &'static str {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Inject".to_owned(),
            secondary: None,
        };
        let Err(error) = self.recorder.publish(&event, &regarding).await else { return WRITTEN };
        let (kind, name) = (regarding.kind.as_deref(), regarding.name.as_deref());
        tracing::warn!(
            %error, kind, name, reason,
            "a Kubernetes Event was not written; it needs create and patch of events in events.k8s.io"
        );
        FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(note: String) -> Said {
        Said { regarding: ObjectReference::default(), reason: "PodIdentityMissed", note }
    }

    #[test]
    fn a_burst_is_counted_and_keeps_nobody_waiting() {
        let (events, mut waiting) = Events::channel(&mut Registry::default());
        for number in 0..WAITING + 3 {
            events.say(said(number.to_string()));
        }
        assert_eq!(events.metrics.get_or_create(&Outcome { outcome: DROPPED }).get(), 3);
        let kept = std::iter::from_fn(|| waiting.try_recv().ok()).count();
        assert_eq!(kept, WAITING);
    }

    #[test]
    fn a_note_is_as_long_as_the_api_server_takes_and_ends_with_a_whole_character() {
        let (events, mut waiting) = Events::channel(&mut Registry::default());
        events.say(said("é".repeat(LONGEST_NOTE)));
        events.say(said(format!("a{}", "é".repeat(LONGEST_NOTE))));
        let lengths = std::iter::from_fn(|| waiting.try_recv().ok()).map(|said| said.note.len());
        assert_eq!(lengths.collect::<Vec<_>>(), [1024, 1023]);
    }
}
