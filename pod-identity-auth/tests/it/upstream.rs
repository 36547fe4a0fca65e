//! The strict STS behind a door of the test's: it counts calls, holds them, or says something else.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use pod_identity_local::sts::Sts;
use pod_identity_local::world::World;
use pod_identity_runtime::clock;
use pod_identity_runtime::listener::{Handler, Listener, Peer};
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use tokio::sync::watch;

use crate::stand::WORLD;

pub(crate) struct Upstream {
    pub(crate) sts: Sts,
    calls: AtomicUsize,
    /// What to say instead of the strict STS, where a request's body holds that text.
    says: Mutex<Option<(&'static str, (u16, &'static str))>>,
    open: watch::Sender<bool>,
}

/// What an STS says that does not want to, or cannot.
pub(crate) const AWAY: (u16, &str) = (503, "");
pub(crate) const THROTTLED: (u16, &str) = (
    400,
    "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error>\
     </ErrorResponse>",
);
pub(crate) const DENIED: (u16, &str) = (
    403,
    "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized</Message>\
     </Error></ErrorResponse>",
);

pub(crate) const TOO_LARGE: (u16, &str) = (
    400,
    "<ErrorResponse><Error><Type>Sender</Type><Code>PackedPolicyTooLarge</Code>\
     <Message>Packed size of session tags consumes 131% of allotted space.</Message></Error></ErrorResponse>",
);

impl Upstream {
    /// Starts one whose sessions last that long at most; gives its URL too.
    pub(crate) async fn start(expire_after: Duration) -> (Arc<Self>, String, Ender) {
        let sts = Sts::new(World::from_yaml(WORLD).unwrap()).expire_after(expire_after);
        let upstream = Arc::new(Self {
            sts,
            calls: AtomicUsize::new(0),
            says: Mutex::new(None),
            open: watch::Sender::new(true),
        });
        let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let url = format!("http://{}", listener.address().unwrap());
        let (ender, shutdown) = Shutdown::manual();
        tokio::spawn(listener.serve(upstream.clone(), shutdown));
        (upstream, url, ender)
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// From now on it says this, or what the strict STS says.
    pub(crate) fn says(&self, answer: Option<(u16, &'static str)>) {
        *self.says.lock().unwrap() = answer.map(|answer| ("", answer));
    }

    /// From now on it says this of the role of that name, and of others what the strict STS says. No other
    /// role's name may begin with it.
    pub(crate) fn says_of(&self, role: &'static str, answer: (u16, &'static str)) {
        *self.says.lock().unwrap() = Some((role, answer));
    }

    /// Whether calls are answered, or held.
    pub(crate) fn open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

impl Handler for Upstream {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        if !String::from_utf8_lossy(&body).contains("Action=AssumeRole&") {
            return self.sts.handle(&parts, &body, clock::now()).map(Full::new);
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        let says = *self.says.lock().unwrap();
        let asked = String::from_utf8_lossy(&body);
        match says.filter(|(of, _)| of.is_empty() || asked.contains(&format!("%3Arole%2F{of}"))) {
            None => self.sts.handle(&parts, &body, clock::now()).map(Full::new),
            Some((_, (status, text))) => {
                let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response
            }
        }
    }
}
