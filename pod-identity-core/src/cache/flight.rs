//! Waiters of a flight, and its result.

use std::sync::Arc;

use tokio::sync::watch;

use super::Entry;
use crate::token::TokenDigest;

/// The result of a flight.
#[derive(Debug)]
pub(super) enum FlightResult<V, E> {
    Value(Arc<Entry<V>>),
    /// The call failed. These are older credentials.
    Stale(Arc<Entry<V>>),
    /// An error, and the token if the error is about the token.
    Failure {
        error: Arc<E>,
        of_token: Option<TokenDigest>,
    },
}

/// One request that waits for a flight. Dropping it cancels nothing.
#[derive(Debug)]
pub struct Waiter<V, E> {
    pub(super) result: watch::Receiver<Option<FlightResult<V, E>>>,
    pub(super) token: Option<TokenDigest>,
}

/// The result of waiting.
#[derive(Debug)]
pub enum Waited<V, E> {
    /// The credentials.
    Value(Arc<Entry<V>>),
    /// The call failed. These are older credentials that are still valid.
    Stale(Arc<Entry<V>>),
    /// The upstream refused the request.
    Refused(Arc<E>),
    /// No result for this request: the leader was dropped, or the error is about another token. Begin again, a few
    /// times.
    Again,
}

impl<V, E> Waiter<V, E> {
    /// Waits for the flight to end. It ends when its leader completes it or is dropped.
    pub async fn wait(mut self) -> Waited<V, E> {
        let Ok(result) = self.result.wait_for(Option::is_some).await else { return Waited::Again };
        match result.as_ref() {
            Some(FlightResult::Value(entry)) => Waited::Value(entry.clone()),
            Some(FlightResult::Stale(entry)) => Waited::Stale(entry.clone()),
            Some(FlightResult::Failure { error, of_token })
                if of_token.is_none() || *of_token == self.token =>
            {
                Waited::Refused(error.clone())
            }
            _ => Waited::Again,
        }
    }
}
