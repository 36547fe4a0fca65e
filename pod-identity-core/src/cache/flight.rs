//! One fetch that many wait for.

use std::sync::Arc;

use tokio::sync::watch;

use super::Entry;
use crate::token::TokenDigest;

/// What a flight ended with, once it has.
pub(super) type Landing<V, E> = Option<Result<Arc<Entry<V>>, Arc<Failure<E>>>>;

/// An error, and the token it was said about, if it was about the token.
#[derive(Debug)]
pub(super) struct Failure<E> {
    pub(super) error: Arc<E>,
    pub(super) of_token: Option<TokenDigest>,
}

/// A place in a flight. Dropping it cancels nothing.
#[derive(Debug)]
pub struct Waiter<V, E> {
    pub(super) landing: watch::Receiver<Landing<V, E>>,
    pub(super) token: TokenDigest,
}

/// What waiting came to.
#[derive(Debug)]
pub enum Waited<V, E> {
    /// The credentials.
    Value(Arc<Entry<V>>),
    /// The upstream refused.
    Refused(Arc<E>),
    /// Nothing that holds for this request: the leader was dropped, or the refusal was about another
    /// token. Begin again, a few times.
    Again,
}

impl<V, E> Waiter<V, E> {
    /// Waits for the flight to end. It ends when its leader completes or is dropped, whatever happens
    /// to the others who wait.
    pub async fn wait(mut self) -> Waited<V, E> {
        let Ok(landing) = self.landing.wait_for(Option::is_some).await else { return Waited::Again };
        match landing.as_ref() {
            Some(Ok(entry)) => Waited::Value(entry.clone()),
            Some(Err(failure)) if failure.of_token.is_none_or(|token| token == self.token) => {
                Waited::Refused(failure.error.clone())
            }
            _ => Waited::Again,
        }
    }
}
