//! A vendor's own credential service on pod-identity-core: its source, its HTTP server, core's rules.
//! `cargo run -p examples --example embed -- ISSUER JWKS-FILE`, then, with a pod's token,
//! `curl -H "Authorization: $(cat TOKEN-FILE)" http://127.0.0.1:8080/v1/credentials`
#![allow(clippy::disallowed_methods)] // the clock is the vendor's

use std::time::{Duration, Instant, SystemTime};
use std::{convert::Infallible, sync::Arc, sync::LazyLock};

use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use pod_identity_core::cache::{CacheConfig, CredentialCache, Effect, Issued, Lead, Refusal};
use pod_identity_core::token::{self, BearerToken, Expected, KeySet};
use pod_identity_core::{credentials::SessionCredentials, identity::WorkloadIdentity, now::Now};

#[derive(Debug, thiserror::Error)]
#[error("the vault is sealed")]
struct Sealed;

impl Refusal for Sealed {
    fn effect(&self) -> Effect {
        Effect::CannotAsk // what is cached stays
    }
}

/// The vendor's own way to credentials, for an identity that core has verified.
async fn fetch(lead: Lead<WorkloadIdentity, SessionCredentials, Sealed>) {
    let Some(identity) = lead.identity().cloned() else { return lead.complete(now(), Err(Sealed)) };
    let (key, in_an_hour) = (format!("KEY-{}", identity.pod.name), now().wall + Duration::from_secs(3600));
    let value = SessionCredentials::new(key, "made by the vault", "made by the vault", in_an_hour);
    lead.complete(now(), Ok(Issued { token_expires_at: in_an_hour, identity, value }));
}

struct Service {
    cache: CredentialCache<WorkloadIdentity, SessionCredentials, Sealed>,
    keys: KeySet,
    expected: Expected,
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Result<Bytes, Box<dyn std::error::Error>> {
        let header = request.headers().get("authorization").ok_or("no Authorization header")?;
        let token = BearerToken::parse(header.to_str()?)?;
        let verify = || token::verify(&token, &self.keys, &self.expected, now().wall);
        let identity = || verify().map(|verified| Some((verified.identity, verified.expires_at)));
        let entry = self.cache.get(&token, now, identity, |lead| drop(tokio::spawn(fetch(lead)))).await?;
        Ok(Bytes::copy_from_slice(&entry.value().to_container_json()?))
    }
}

fn now() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    Now { wall: SystemTime::now(), monotonic: START.elapsed() }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (issuer, jwks) = args.next().zip(args.next()).ok_or("usage: embed ISSUER JWKS-FILE")?;
    let keys = KeySet::from_jwks(&std::fs::read(jwks)?)?;
    let expected = Expected { issuer, audience: token::POD_IDENTITY_AUDIENCE.to_owned() };
    let service = Arc::new(Service { cache: CredentialCache::new(CacheConfig::default()), keys, expected });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    loop {
        let (stream, service) = (listener.accept().await?.0, service.clone());
        let answer = service_fn(move |request| respond(service.clone(), request));
        tokio::spawn(
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer),
        );
    }
}

async fn respond(
    service: Arc<Service>,
    request: Request<Incoming>,
) -> Result<Response<http_body_util::Full<Bytes>>, Infallible> {
    let answer = service.answer(request).await;
    let (status, body) = answer.map_or_else(|error| (403, error.to_string().into()), |json| (200, json));
    Ok(Response::builder().status(status).body(body.into()).unwrap_or_default())
}
