//! A vendor's credential service with its own vault and HTTP server: `embed ISSUER JWKS-FILE VAULT-DIRECTORY`.
#![allow(clippy::disallowed_methods)] // SystemTime::now: a vendor reads its own clock
use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use pod_identity_core::{association::Association, cluster::*, credentials::*, identity::*, service::*};
use std::{error::Error, net::IpAddr, path::PathBuf, sync::Arc, time::Duration, time::SystemTime};
struct Vault(PathBuf); // files: NAMESPACE.SERVICE-ACCOUNT with a role ARN, and ROLE-NAME with a secret
impl Vault {
    async fn read(&self, name: &str) -> Result<String, CredentialError> {
        let failed = |error| CredentialError::unavailable(format!("vault: cannot read {name}: {error}"));
        tokio::fs::read_to_string(self.0.join(name)).await.map_err(failed)
    }
}
impl CredentialSource for Vault {
    fn issue<'a>(&'a self, request: &'a CredentialRequest) -> IssueFuture<'a> {
        Box::pin(async move {
            let secret = self.read(request.association().map_or("", |found| found.role.name())).await?;
            let expires_at = SystemTime::now() + Duration::from_secs(3600);
            Ok(SessionCredentials::new("ASIAVAULT", secret.trim(), "session", expires_at))
        })
    }
}
impl AssociationLookup for Vault {
    fn association<'a>(&'a self, _: &'a Cluster, pod: &'a WorkloadIdentity) -> LookupFuture<'a> {
        Box::pin(async move {
            let role = self.read(&format!("{}.{}", pod.namespace, pod.service_account)).await?;
            Ok(role.trim().parse().ok().map(|role| Arc::new(Association::for_pod(pod, role))))
        })
    }
}
type HttpResult = hyper::http::Result<Response<Full<Bytes>>>;
async fn respond(service: CredentialService, peer: IpAddr, request: Request<Incoming>) -> HttpResult {
    let token = request.headers().get("authorization").and_then(|token| token.to_str().ok());
    let (code, headers, body) = match service.credentials(token.unwrap_or_default(), peer).await {
        Ok(json) => (200, vec![("content-type", "application/json".to_owned())], Bytes::from_owner(json)),
        Err(error) => (error.status(), error.headers(), error.body().into()),
    };
    headers.iter().fold(Response::builder().status(code), |all, (k, v)| all.header(*k, v)).body(body.into())
}
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or("usage: embed ISSUER JWKS-FILE VAULT-DIRECTORY");
    let (issuer, vault) = (Issuer::file(next()?, next()?), Arc::new(Vault(next()?.into())));
    let service = CredentialService::builder(vault.clone()).associations(vault);
    let service = service.cluster(Cluster::new("demo".parse()?), issuer).build()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("serving credentials on http://{}/", listener.local_addr()?);
    loop {
        let Ok((io, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await; // no free descriptor
            continue;
        };
        let service = service.clone();
        let respond = service_fn(move |request| respond(service.clone(), peer.ip(), request));
        let http = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(io), respond);
        tokio::spawn(http);
    }
}
