//! The STS of `pod-identity-local` behind a handler that counts and pauses calls, or replaces responses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use pod_identity_local::fixture::Fixture;
use pod_identity_local::sts::Sts;
use pod_identity_runtime::clock;
use pod_identity_runtime::listener::{Handler, Listener, Peer};
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use tokio::sync::watch;

use crate::test_auth::FIXTURE;

pub(crate) struct Upstream {
    pub(crate) sts: Sts,
    calls: AtomicUsize,
    /// The response for a role whose name begins with this text, in place of the STS's response.
    replacement: Mutex<Option<(&'static str, (u16, &'static str))>>,
    open: watch::Sender<bool>,
}

pub(crate) const UNAVAILABLE: (u16, &str) = (503, "");
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
    /// Starts an STS whose sessions last `expire_after` at most. Returns its URL too.
    pub(crate) async fn start(expire_after: Duration) -> (Arc<Self>, String, Ender) {
        let sts = Sts::new(Fixture::from_yaml(FIXTURE).unwrap()).expire_after(expire_after);
        let upstream = Arc::new(Self {
            sts,
            calls: AtomicUsize::new(0),
            replacement: Mutex::new(None),
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

    /// Sets the response of `AssumeRole`. `None`: the response of the STS.
    pub(crate) fn respond_with(&self, answer: Option<(u16, &'static str)>) {
        *self.replacement.lock().unwrap() = answer.map(|answer| ("", answer));
    }

    /// Sets the response of `AssumeRole` for one role. No other role's name may begin with this name.
    pub(crate) fn respond_for_role(&self, role: &'static str, answer: (u16, &'static str)) {
        *self.replacement.lock().unwrap() = Some((role, answer));
    }

    /// Holds calls until [`resume`](Self::resume).
    pub(crate) fn pause(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn resume(&self) {
        self.open.send_replace(true);
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
        let replacement = *self.replacement.lock().unwrap();
        let form = String::from_utf8_lossy(&body);
        match replacement.filter(|(role, _)| form.contains(&format!("%3Arole%2F{role}"))) {
            None => self.sts.handle(&parts, &body, clock::now()).map(Full::new),
            Some((_, (status, text))) => {
                let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response
            }
        }
    }
}
