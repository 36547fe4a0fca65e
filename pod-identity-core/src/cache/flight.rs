//! One fetch that many wait for.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::watch;

use super::Entry;
use crate::token::TokenDigest;

/// What a flight ended with.
#[derive(Debug)]
pub(super) enum Landing<V, E> {
    Value(Arc<Entry<V>>),
    /// The upstream could not be asked; this was there before.
    Stale(Arc<Entry<V>>),
    /// An error, and the token it was said about, if it was about the token.
    Failure {
        error: Arc<E>,
        of_token: Option<TokenDigest>,
    },
}

/// Why a cache gives no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied<E, R = Infallible> {
    /// The token is not good.
    #[error("{0}")]
    Token(R),
    /// The upstream refused; all who waited share its error.
    #[error("{0}")]
    Upstream(Arc<E>),
    /// Leaders were dropped again and again.
    #[error("the fetch was given up; ask again")]
    GivenUp,
}

/// A place in a flight. Dropping it cancels nothing.
#[derive(Debug)]
pub struct Waiter<V, E> {
    pub(super) landing: watch::Receiver<Option<Landing<V, E>>>,
    pub(super) token: Option<TokenDigest>,
}

/// What waiting came to.
#[derive(Debug)]
pub enum Waited<V, E> {
    /// The credentials.
    Value(Arc<Entry<V>>),
    /// The upstream could not be asked. These credentials, which were there before, still hold.
    Stale(Arc<Entry<V>>),
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
            Some(Landing::Value(entry)) => Waited::Value(entry.clone()),
            Some(Landing::Stale(entry)) => Waited::Stale(entry.clone()),
            Some(Landing::Failure { error, of_token }) if of_token.is_none() || *of_token == self.token => {
                Waited::Refused(error.clone())
            }
            _ => Waited::Again,
        }
    }
}
