//! A vendor's own credential service on pod-identity-core: its source, its HTTP server, core's rules and cache.
//! `cargo run -p examples --example embed -- ISSUER JWKS-FILE`, then, with a pod's token,
//! `curl -H "Authorization: $(cat TOKEN-FILE)" http://127.0.0.1:8080/v1/credentials`
#![allow(clippy::disallowed_methods)] // the clock is the vendor's

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use pod_identity_core::cache::{
    CacheConfig, CredentialCache, Denied, Effect, Issued, Lead, Refusal, UnusableAnswer,
};
use pod_identity_core::source::{CredentialSource, SubjectCredentials};
use pod_identity_core::token::{self, BearerToken, Expected, KeySet, verify};
use pod_identity_core::{credentials::SessionCredentials, identity::WorkloadIdentity, now::Now};
use std::{error::Error, sync::Arc, sync::LazyLock, time::Duration, time::Instant, time::SystemTime};

#[derive(Debug, thiserror::Error)]
#[error("the vault is sealed")]
struct Sealed;
impl Refusal for Sealed {
    fn effect(&self) -> Effect {
        Effect::CannotAsk // what is cached stays
    }
}

impl From<UnusableAnswer> for Sealed {
    fn from(_: UnusableAnswer) -> Self {
        Self
    }
}

struct Vault;
impl CredentialSource for Vault {
    type Error = Sealed;
    async fn exchange(&self, token: &BearerToken) -> Result<SubjectCredentials, Sealed> {
        let (pod, _) = token::claimed_identity(token).map_err(|_| Sealed)?;
        let in_an_hour = now().wall + Duration::from_secs(3600);
        let credentials = SessionCredentials::new("KEY", "secret", "token", in_an_hour);
        Ok(SubjectCredentials { namespace: pod.namespace, service_account: pod.service_account, credentials })
    }
}
type Service = (CredentialCache<WorkloadIdentity, SessionCredentials, Sealed>, KeySet, Expected);
type Answer = hyper::http::Result<Response<Full<Bytes>>>;
async fn fetch(lead: Lead<WorkloadIdentity, SessionCredentials, Sealed>) {
    let answer = Vault.exchange(lead.token()).await.and_then(|answer| {
        let (identity, token_expires_at) = token::claimed_identity(lead.token()).map_err(|_| Sealed)?;
        Ok(Issued { identity, token_expires_at, value: answer.credentials })
    });
    lead.complete(now(), answer); // for the identity that was verified, or for nobody
}

async fn answer(service: &Service, request: Request<Incoming>) -> Result<(u16, Bytes), Box<dyn Error>> {
    let (cache, keys, expected) = service;
    let header = request.headers().get("authorization").ok_or("no Authorization header")?;
    let token = BearerToken::parse(header.to_str()?)?;
    let judge = || verify(&token, keys, expected, now().wall).map(|v| Some((v.identity, v.expires_at)));
    match cache.get(&token, now, judge, |lead| drop(tokio::spawn(fetch(lead)))).await {
        Ok(entry) => Ok((200, Bytes::copy_from_slice(&entry.value().to_container_json()?))),
        Err(Denied::Token(error)) => Err(error.into()),
        Err(denied) => Ok((503, denied.to_string().into())), // may pass by itself: SDKs ask again
    }
}

async fn respond(service: Arc<Service>, request: Request<Incoming>) -> Answer {
    let (status, body) = answer(&service, request).await.unwrap_or_else(|e| (403, e.to_string().into()));
    Response::builder().status(status).body(Full::new(body))
}

fn now() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    Now { wall: SystemTime::now(), monotonic: START.elapsed() }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (issuer, jwks) = args.next().zip(args.next()).ok_or("usage: embed ISSUER JWKS-FILE")?;
    let expected = Expected { issuer, audience: token::POD_IDENTITY_AUDIENCE.to_owned() };
    let keys = KeySet::from_jwks(&std::fs::read(jwks)?)?;
    let service = Arc::new((CredentialCache::new(CacheConfig::default()), keys, expected));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    let http = http1::Builder::new().timer(TokioTimer::new()).clone();
    loop {
        let (stream, service) = (listener.accept().await?.0, service.clone());
        let respond = service_fn(move |request| respond(service.clone(), request));
        tokio::spawn(http.serve_connection(TokioIo::new(stream), respond));
    }
}
