//! Waiting for a flight.

use std::sync::Arc;

use tokio::sync::watch;

use super::Entry;
use crate::token::TokenDigest;

/// The result of a flight.
#[derive(Debug)]
pub(super) enum Landing<V, E> {
    Value(Arc<Entry<V>>),
    /// The call failed. These credentials are older.
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
    pub(super) landing: watch::Receiver<Option<Landing<V, E>>>,
    pub(super) token: Option<TokenDigest>,
}

/// The result of waiting.
#[derive(Debug)]
pub enum Waited<V, E> {
    /// The credentials.
    Value(Arc<Entry<V>>),
    /// The call failed. These credentials are older and still valid.
    Stale(Arc<Entry<V>>),
    /// The upstream refused.
    Refused(Arc<E>),
    /// No result for this request, because the leader was dropped or the error is about another token. Begin again, a
    /// few times.
    Again,
}

impl<V, E> Waiter<V, E> {
    /// Waits for the flight to end, which its leader does by completing or when it is dropped.
    pub async fn wait(mut self) -> Waited<V, E> {
        let Ok(landing) = self.landing.wait_for(Option::is_some).await else { return Waited::Again };
        match landing.as_ref() {
            Some(Landing::Value(entry)) => Waited::Value(entry.clone()),
            Some(Landing::Stale(entry)) => Waited::Stale(entry.clone()),
            Some(Landing::Failure { error, of_token }) if of_token.is_none() || *of_token == self.token => {
                Waited::Refused(error.clone())
            }
            _ => Waited::Again,
        }
    }
}
