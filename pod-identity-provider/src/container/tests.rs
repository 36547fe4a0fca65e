//! Attempts in virtual time, at an endpoint that follows a script.

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

const GOOD: &str = r#"{"AccessKeyId":"ASIA","SecretAccessKey":"secret","Token":"token",
                       "Expiration":"2999-01-01T00:00:00Z"}"#;

/// The endpoint's reaction to a request.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// 503, with this `Retry-After`.
    Unavailable(&'static str),
    Silence,
}

/// Returns these answers one after the other, then credentials, each after 10 ms.
#[derive(Debug, Clone)]
struct Agent {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl Agent {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::default() }
    }

    fn asked(&self) -> Vec<Instant> {
        self.asked.lock().unwrap().clone()
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

    /// Lets the fetch run until it has made that many requests, or has ended.
    async fn asked_often(&self, times: usize, fetch: &JoinHandle<Result<Credentials, Error>>) {
        while self.asked().len() < times && !fetch.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl HttpConnector for Agent {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        self.asked.lock().unwrap().push(Instant::now());
        let answer = self.answers.lock().unwrap().pop_front();
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let (status, body) = match answer {
                None => (200, GOOD),
                Some(Answer::Unavailable(_)) => (503, ""),
                Some(Answer::Silence) => std::future::pending().await,
            };
            let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
            if let Some(Answer::Unavailable(retry_after)) = answer {
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

fn endpoint_error(answer: Result<Credentials, Error>) -> crate::error::EndpointError {
    match answer.unwrap_err() {
        Error::Endpoint(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_asks_for_no_pause_gets_one_too() {
    let agent = Agent::new([Answer::Unavailable("0"); 200]);
    let error = endpoint_error(agent.fetch().await.unwrap());
    assert_eq!(error.status(), Some(503));
    // Pauses are a second on average from the sixth on.
    assert!((3..60).contains(&error.attempts()), "{} attempts", error.attempts());
}

#[tokio::test(start_paused = true)]
async fn the_pause_that_the_endpoint_asks_for_is_kept_with_jitter_on_top() {
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let agent = Agent::new([Answer::Unavailable("2")]);
        agent.fetch().await.unwrap().unwrap();
        let asked = agent.asked();
        pauses.push(asked[1] - asked[0] - Duration::from_millis(10));
    }
    // Tokio's timers are of whole milliseconds.
    let longest = 2 * SECOND + Duration::from_millis(102);
    assert!(pauses.iter().all(|pause| (2 * SECOND..longest).contains(pause)), "{pauses:?}");
    pauses.sort();
    pauses.dedup();
    assert!(pauses.len() > 5, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_beyond_the_deadline_is_in_the_error() {
    let agent = Agent::new([Answer::Unavailable("1"), Answer::Unavailable("20")]);
    let error = endpoint_error(agent.fetch().await.unwrap());
    assert_eq!((error.attempts(), error.retry_after()), (2, Some(20 * SECOND)));
    assert!(error.took() < 2 * SECOND, "{:?}", error.took());
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_was_kept_is_not_in_the_error() {
    let agent = Agent::new([Answer::Unavailable("6"), Answer::Silence]);
    let error = endpoint_error(agent.fetch().await.unwrap());
    assert_eq!((error.status(), error.attempts(), error.retry_after()), (Some(503), 2, None));
}

#[tokio::test(start_paused = true)]
#[cfg(unix)]
async fn a_token_that_is_unreadable_for_a_moment_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    // A link to itself: ELOOP.
    std::os::unix::fs::symlink(&token, &token).unwrap();
    let agent = Agent::new([]);
    let fetch = agent.fetch_with_token(&token.display().to_string());
    tokio::time::sleep(SECOND).await;
    assert!(!fetch.is_finished());
    std::fs::remove_file(&token).unwrap();
    std::fs::write(&token, "the-pods-token").unwrap();
    assert!(fetch.await.unwrap().is_ok());
    assert_eq!(agent.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_frozen_has_its_whole_deadline_when_it_wakes() {
    for (answers, what) in [([Answer::Silence], "an attempt"), ([Answer::Unavailable("2")], "a pause")] {
        let agent = Agent::new(answers);
        let fetch = agent.fetch();
        agent.asked_often(1, &fetch).await;
        if what == "a pause" {
            // The answer has arrived and the pause begun.
            tokio::time::sleep(SECOND).await;
        }
        tokio::time::advance(HOUR).await;
        assert!(fetch.await.unwrap().is_ok(), "frozen in {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_always_late_does_not_retry_for_ever() {
    let agent = Agent::new([Answer::Silence; 50]);
    let fetch = agent.fetch();
    for attempt in 1..50 {
        agent.asked_often(attempt, &fetch).await;
        tokio::time::advance(20 * SECOND).await;
    }
    assert!(fetch.is_finished());
    assert!(endpoint_error(fetch.await.unwrap()).attempts() < 10);
}
