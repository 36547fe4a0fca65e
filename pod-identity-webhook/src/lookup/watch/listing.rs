//! The initial list: streamed, or in pages if the API server cannot stream.
//!
//! A streamed list is a watch request with `sendInitialEvents` (Kubernetes, *API concepts*, streaming lists). API
//! servers answer it from memory since 1.32, except 1.33, where the feature gate `WatchList` is off. Others refuse
//! it with 422 (`k8s.io/apimachinery`, `pkg/apis/meta/internalversion/validation`). As client-go does, any streamed
//! list that does not end is followed by one in pages.

use kube::runtime::watcher::{self, Event};

/// The status of a watch from a version that the API server no longer has (Kubernetes, *API concepts*, 410 Gone).
pub(super) const GONE: u16 = 410;

/// Statuses of an API server or proxy that does not know the request's parameters.
const REFUSED: [u16; 2] = [400, 422];

/// Follows the events of a watcher and finds lists that were not streamed.
#[derive(Debug)]
pub(super) struct Listing {
    streamed: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No list has begun.
    Idle,
    /// A list has begun and has not ended.
    Listing,
    /// The list has ended.
    Watching,
}

/// Why a list was not streamed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotStreamed {
    /// The API server refused the request.
    #[error("the API server does not stream lists: {0}")]
    Refused(String),
    /// The stream ended before the list did.
    #[error("the streamed list was cut off before its end")]
    CutOff,
}

impl Listing {
    pub(super) fn new(streamed: bool) -> Self {
        Self { streamed, state: State::Idle }
    }

    /// Handles the watcher's next event. Returns a reason if the list has to be read in pages.
    pub(super) fn follow<K>(&mut self, event: &Result<Event<K>, watcher::Error>) -> Option<NotStreamed> {
        match event {
            Ok(Event::Init) if self.streamed && self.state == State::Listing => {
                return Some(NotStreamed::CutOff);
            }
            Ok(Event::Init) => self.state = State::Listing,
            Ok(Event::InitDone) => self.state = State::Watching,
            // The watcher lists again.
            Err(watcher::Error::WatchError(status)) if status.code == GONE => self.state = State::Idle,
            Err(watcher::Error::WatchStartFailed(kube::Error::Api(status)))
                if self.streamed && self.state != State::Watching && REFUSED.contains(&status.code) =>
            {
                return Some(NotStreamed::Refused(format!("{} ({})", status.message, status.code)));
            }
            Ok(_) | Err(_) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn failed(code: u16) -> Result<Event<()>, watcher::Error> {
        let status = Status::failure("the reason", "Test").with_code(code);
        Err(watcher::Error::WatchStartFailed(kube::Error::Api(status.boxed())))
    }

    #[test]
    fn falls_back_if_the_api_server_refuses_to_stream() {
        for code in REFUSED {
            let reason = Listing::new(true).follow(&failed(code)).unwrap().to_string();
            assert!(reason.contains("the reason") && reason.contains(&code.to_string()), "{reason}");
        }
    }

    #[test]
    fn retries_if_the_api_server_is_unavailable_or_forbids_the_watch() {
        let mut listing = Listing::new(true);
        for code in [401, 403, 429, 500, 503] {
            assert_eq!(listing.follow(&failed(code)), None, "{code}");
        }
    }

    #[test]
    fn falls_back_if_a_streamed_list_restarts_before_its_end() {
        let mut listing = Listing::new(true);
        for event in [Event::Init, Event::InitApply(())] {
            assert_eq!(listing.follow(&Ok(event)), None);
        }
        assert_eq!(listing.follow(&Ok(Event::<()>::Init)), Some(NotStreamed::CutOff));
    }

    #[test]
    fn streams_again_after_a_complete_list() {
        let mut listing = Listing::new(true);
        let gone = || {
            let status = Status::failure("too old", "Expired").with_code(GONE);
            Err(watcher::Error::WatchError(status.boxed()))
        };
        for event in [Ok(Event::Init), Ok(Event::InitDone), failed(400), gone(), Ok(Event::Init)] {
            assert_eq!(listing.follow(&event), None, "{event:?}");
        }
        assert_eq!(listing.follow(&Ok(Event::<()>::InitDone)), None);
    }

    #[test]
    fn a_paged_list_never_falls_back() {
        let mut listing = Listing::new(false);
        for event in [failed(422), Ok(Event::Init), Ok(Event::Init)] {
            assert_eq!(listing.follow(&event), None, "{event:?}");
        }
    }
}
