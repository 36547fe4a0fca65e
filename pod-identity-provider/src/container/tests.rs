//! Attempts in virtual time, with a scripted endpoint.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::dns::SharedDnsResolver;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::clock::Clock;
use crate::dns::SystemResolver;
use crate::environment::{Environment, FULL_URI, TOKEN_FILE};
use crate::scripted::{HOUR, SECOND, source};
use crate::timer::Timer;

const CREDENTIALS: &str = r#"{"AccessKeyId":"ASIA","SecretAccessKey":"secret","Token":"token",
                       "Expiration":"2999-01-01T00:00:00Z"}"#;

/// How the agent reacts to a request.
#[derive(Debug, Clone, Copy)]
enum Behavior {
    /// Returns 503 with this `Retry-After`.
    Unavailable(&'static str),
    Hang,
}

/// Follows the script, then returns credentials. Each response takes 10 ms.
#[derive(Debug, Clone)]
struct Agent {
    behaviors: Arc<Mutex<VecDeque<Behavior>>>,
    request_times: Arc<Mutex<Vec<Instant>>>,
}

impl Agent {
    fn new(behaviors: impl IntoIterator<Item = Behavior>) -> Self {
        Self {
            behaviors: Arc::new(Mutex::new(behaviors.into_iter().collect())),
            request_times: Arc::default(),
        }
    }

    fn request_times(&self) -> Vec<Instant> {
        self.request_times.lock().unwrap().clone()
    }

    fn fetch(&self) -> JoinHandle<Result<Credentials, Error>> {
        self.fetch_with_token("")
    }

    fn fetch_with_token(&self, path: &str) -> JoinHandle<Result<Credentials, Error>> {
        let transport = Transport {
            http_client: Some(SharedHttpClient::new(self.clone())),
            dns: SharedDnsResolver::new(SystemResolver),
            timer: Timer::tokio(),
            clock: Clock::custom(SharedTimeSource::new(source(HOUR).1)),
            attempt_timeout: 5 * SECOND,
            deadline: 10 * SECOND,
        };
        let environment = Environment::from_iter([(FULL_URI, "http://127.0.0.1/"), (TOKEN_FILE, path)]);
        tokio::spawn(async move {
            let source = ContainerCredentials::new(&environment, transport);
            source.fetch().await
        })
    }

    /// Waits until the fetch has made this number of requests, or has ended.
    async fn wait_for_requests(&self, times: usize, fetch: &JoinHandle<Result<Credentials, Error>>) {
        while self.request_times().len() < times && !fetch.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl HttpConnector for Agent {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        self.request_times.lock().unwrap().push(Instant::now());
        let behavior = self.behaviors.lock().unwrap().pop_front();
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let (status, body) = match behavior {
                None => (200, CREDENTIALS),
                Some(Behavior::Unavailable(_)) => (503, ""),
                Some(Behavior::Hang) => std::future::pending().await,
            };
            let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
            if let Some(Behavior::Unavailable(retry_after)) = behavior {
                response.headers_mut().insert("retry-after", retry_after);
            }
            Ok(response)
        })
    }
}

impl HttpClient for Agent {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

fn endpoint_error(result: Result<Credentials, Error>) -> crate::error::EndpointError {
    match result.unwrap_err() {
        Error::Endpoint(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_between_attempts_after_retry_after_zero() {
    let agent = Agent::new([Behavior::Unavailable("0"); 200]);
    let error = endpoint_error(agent.fetch().await.unwrap());
    assert_eq!(error.status(), Some(503));
    // From the sixth pause on, the average is one second.
    assert!((3..60).contains(&error.attempts()), "{} attempts", error.attempts());
}

#[tokio::test(start_paused = true)]
async fn pause_is_retry_after_plus_jitter() {
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let agent = Agent::new([Behavior::Unavailable("2")]);
        agent.fetch().await.unwrap().unwrap();
        let request_times = agent.request_times();
        pauses.push(request_times[1] - request_times[0] - Duration::from_millis(10));
    }
    // Tokio's timers have a resolution of one millisecond.
    let longest = 2 * SECOND + Duration::from_millis(102);
    assert!(pauses.iter().all(|pause| (2 * SECOND..longest).contains(pause)), "{pauses:?}");
    pauses.sort();
    pauses.dedup();
    assert!(pauses.len() > 5, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn error_has_the_retry_after_that_is_beyond_the_deadline() {
    let agent = Agent::new([Behavior::Unavailable("1"), Behavior::Unavailable("20")]);
    let error = endpoint_error(agent.fetch().await.unwrap());
    assert_eq!((error.attempts(), error.retry_after()), (2, Some(20 * SECOND)));
    assert!(error.took() < 2 * SECOND, "{:?}", error.took());
}

#[tokio::test(start_paused = true)]
async fn error_has_no_retry_after_that_has_passed() {
    let agent = Agent::new([Behavior::Unavailable("6"), Behavior::Hang]);
    let error = endpoint_error(agent.fetch().await.unwrap());
    assert_eq!((error.status(), error.attempts(), error.retry_after()), (Some(503), 2, None));
}

#[tokio::test(start_paused = true)]
#[cfg(unix)]
async fn retries_after_an_error_reading_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    // Reading a symbolic link to itself fails with ELOOP.
    std::os::unix::fs::symlink(&token, &token).unwrap();
    let agent = Agent::new([]);
    let fetch = agent.fetch_with_token(&token.display().to_string());
    tokio::time::sleep(SECOND).await;
    assert!(!fetch.is_finished());
    std::fs::remove_file(&token).unwrap();
    std::fs::write(&token, "the-pods-token").unwrap();
    assert!(fetch.await.unwrap().is_ok());
    assert_eq!(agent.request_times().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn deadline_restarts_after_the_process_was_frozen() {
    for (behaviors, what) in [([Behavior::Hang], "an attempt"), ([Behavior::Unavailable("2")], "a pause")] {
        let agent = Agent::new(behaviors);
        let fetch = agent.fetch();
        agent.wait_for_requests(1, &fetch).await;
        if what == "a pause" {
            // The response has arrived, and the fetch is in its pause.
            tokio::time::sleep(SECOND).await;
        }
        tokio::time::advance(HOUR).await;
        assert!(fetch.await.unwrap().is_ok(), "frozen in {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn process_whose_timers_are_always_late_stops_retrying() {
    let agent = Agent::new([Behavior::Hang; 50]);
    let fetch = agent.fetch();
    for attempt in 1..50 {
        agent.wait_for_requests(attempt, &fetch).await;
        tokio::time::advance(20 * SECOND).await;
    }
    assert!(fetch.is_finished());
    assert!(endpoint_error(fetch.await.unwrap()).attempts() < 10);
}
