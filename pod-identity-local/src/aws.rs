//! The command `aws`: serves the local STS as the AWS of a test cluster.

mod tls; // a CA of this process and a certificate

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pod_identity_core::token::KeySet;
use pod_identity_runtime::files::read_text;
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyFetcher, KeyLocation};
use pod_identity_runtime::listener::{Connections, Limits, Listener};
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;

use crate::args::AwsArgs;
use crate::fixture::Fixture;
use crate::services::{StsEndpoint, write_private};
use crate::sts::Sts;

/// Maximum size of a fixture file in bytes.
const MAX_FILE: usize = 16 * 1024 * 1024;

/// Time between two fetches of the issuer's keys. A new key of the issuer works after this time.
const REFRESH: Duration = Duration::from_secs(30);

/// Time to the next fetch after a failure.
const RETRY: Duration = Duration::from_secs(2);

type Error = Box<dyn std::error::Error>;

/// Runs the command `aws` until SIGTERM or SIGINT.
pub async fn run(args: AwsArgs) -> ExitCode {
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: AwsArgs) -> Result<(), Error> {
    let file = args.file.display();
    let text = read_text(&args.file, MAX_FILE).map_err(|error| format!("--file {file}: {error}"))?;
    let fixture = Fixture::from_yaml(&text).map_err(|error| format!("--file {file}: {error}"))?;
    let callers = fixture.callers().count();
    let roles = fixture.roles().count();
    let keys = Arc::new(Mutex::new(None::<Arc<KeySet>>));
    let (issuer, known) = (args.issuer.clone(), keys.clone());
    let sts = Sts::new(fixture).issuer_keys(move |url| {
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone().filter(|_| url == issuer)
    });

    let listener = Listener::bind(args.listen)
        .await
        .map_err(|error| format!("--listen {}: {error}", args.listen))?
        .with_connections(Connections::new(Limits::default()));
    let address = listener.address()?;
    let (listener, scheme) = match &args.ca_file {
        None => (listener, "http"),
        Some(path) => {
            let (tls, ca) = tls::create(address.ip(), &args.tls_name)?;
            std::fs::write(path, ca).map_err(|error| format!("--ca-file {}: {error}", path.display()))?;
            (listener.with_tls(tls), "https")
        }
    };
    let fetcher = KeyFetcher::new(IssuerConfig {
        issuer: args.issuer.clone(),
        keys: KeyLocation::Url(args.jwks_url.clone()),
        bearer_token_file: args.jwks_token_file.clone(),
        outbound: Outbound { ca_file: args.jwks_ca_file.clone(), ..Outbound::default() },
    })?;

    let mut shutdown = Shutdown::on_signal()?;
    let server = tokio::spawn(listener.serve(Arc::new(StsEndpoint(Arc::new(sts))), shutdown.clone()));
    println!("STS: {scheme}://{address} ({roles} roles, {callers} access keys)");
    if let Some(path) = &args.ca_file {
        println!("CA certificate: {}", path.display());
    }
    let follow = async {
        let mut ready = false;
        loop {
            let fetched = match fetch(&fetcher).await {
                Ok(set) => {
                    *keys.lock().unwrap_or_else(PoisonError::into_inner) = Some(set);
                    if !ready {
                        println!("ready: tokens of {} are verified with {}", args.issuer, args.jwks_url);
                        if let Some(path) = &args.ready_file {
                            let written = write_private(path, &format!("{scheme}://{address}\n"));
                            written.map_err(|error| format!("--ready-file {}: {error}", path.display()))?;
                        }
                    }
                    ready = true;
                    true
                }
                Err(error) => {
                    eprintln!("keys of the issuer not fetched, the next attempt is in 2 s: {error}");
                    false
                }
            };
            tokio::time::sleep(if fetched { REFRESH } else { RETRY }).await;
        }
    };
    let ended: Result<(), String> = tokio::select! {
        failed = follow => failed,
        () = shutdown.asked() => Ok(()),
    };
    ended?;
    server.await?;
    Ok(())
}

async fn fetch(fetcher: &KeyFetcher) -> Result<Arc<KeySet>, String> {
    let document = fetcher.fetch().await.map_err(|error| error.to_string())?;
    KeySet::from_jwks(&document).map(Arc::new).map_err(|error| error.to_string())
}
