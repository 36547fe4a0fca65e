//! An exchange at the auth service without the time of STS, against one verified signature. The service's own work
//! should take little more time than the cryptography.
//!
//! Both are wall-clock times, measured alternately, so that other load on the machine slows down both. Only the
//! service's metrics separate the time of STS, and they use the wall clock. The figure is the time from the request
//! head to the response without the SDK's call of STS. It includes reading the body, authentication of the caller,
//! token verification, the association lookup, the session plan, caching, and the response. It includes neither
//! HTTP/1.1 itself nor writing the audit line. Each exchange is for another pod, because a cached session needs no
//! exchange.

mod sts;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use benches::signed::{Algorithm, SignedToken};
use pod_identity_auth::app::App;
use pod_identity_auth::config::Config;
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_runtime::clock;
use pod_identity_runtime::listener::Limits;
use pod_identity_runtime::shutdown::Shutdown;
use serde_json::json;
use testing::wire::{Connection, ask};

use crate::Outcome;
use crate::measure::{Figures, Pairs, aim, each, pin};
use crate::pods::{ISSUER, pod, token};
use crate::served::{Served, serve};

const ROUNDS: usize = 41;
const EXCHANGES: usize = 50;
const SIGNATURES: u32 = 400;
/// The aim, from the project's design.
const RATIO: f64 = 1.5;

pub(crate) fn run() -> Outcome {
    let issuer = Issuer::new(ISSUER, "http://127.0.0.1:1", KeyAlgorithm::Rs256)?;
    let auth = auth(&issuer, (ROUNDS + 1) * EXCHANGES)?;
    let bare = SignedToken::new(Algorithm::Rs256)?.bare()?;
    pin(0);
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (address, admin) = (auth.addresses[0], auth.addresses[1]);
    client.block_on(ready(admin))?;

    let mut numbers = (0..).step_by(EXCHANGES);
    let mut whole = Vec::new();
    let exchange = || {
        // For other pods each time, so that no session is cached.
        let from = numbers.next().unwrap_or_default();
        let bodies = (from..from + EXCHANGES)
            .map(|number| Ok(json!({"token": token(&issuer, &pod(number)?)?}).to_string()))
            .collect::<Result<Vec<String>, Box<dyn std::error::Error>>>()?;
        let (before, cpu) = (client.block_on(seconds(admin))?, auth.cpu()?);
        client.block_on(exchanges(address, &bodies))?;
        whole.push(each(auth.cpu()? - cpu, EXCHANGES as u32) / 1e3);
        let after = client.block_on(seconds(admin))?;
        let without_sts = (after.0 - before.0) - (after.1 - before.1);
        Ok(without_sts * 1e6 / EXCHANGES as f64)
    };
    let verification = || {
        let started = clock::monotonic();
        if !(0..SIGNATURES).all(|_| std::hint::black_box(&bare).verifies()) {
            return Err("the bare library refuses the signature".into());
        }
        Ok(each(clock::monotonic().duration_since(started), SIGNATURES) / 1e3)
    };
    let pairs = Pairs::in_turn(ROUNDS, exchange, verification)?;
    pairs.print("an exchange", "without STS", "one RS256 signature", "µs");
    println!(
        "  CPU of the service with the SDK's call of STS and HTTP: {:.0} µs",
        Figures::of(whole).median()
    );
    aim("ratio of an exchange without STS to a signature", pairs.ratio(), RATIO);
    Ok(())
}

/// Starts the whole service on one thread, with an STS that responds at once.
fn auth(issuer: &Issuer, pods: usize) -> Result<Served, Box<dyn std::error::Error>> {
    let files = tempfile::tempdir()?;
    let directory = files.path();
    std::fs::write(directory.join("jwks"), issuer.jwks())?;
    let associations = directory.join("associations.yaml");
    std::fs::write(&associations, association_file(directory, pods)?)?;
    let auth = serve(move || async move {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = Config {
            admin: Some(loopback),
            limits: Limits::ONE_MACHINE,
            ..Config::new(loopback, associations)
        };
        let app = App::bind(config, sts::client()).await?;
        let addresses = vec![app.address()?, app.admin_address().ok_or("no admin address")?];
        tokio::spawn(app.run(Shutdown::never()));
        Ok(addresses)
    })?;
    Ok(auth.with_files(files))
}

fn association_file(directory: &Path, pods: usize) -> Result<String, Box<dyn std::error::Error>> {
    let association = |number| -> Result<_, Box<dyn std::error::Error>> {
        let pod = pod(number)?;
        Ok(json!({
            "clusterName": "bench", "namespace": pod.namespace, "serviceAccount": pod.service_account,
            "roleArn": "arn:aws:iam::111122223333:role/app",
        }))
    };
    let associations = (0..pods).map(association).collect::<Result<Vec<_>, _>>()?;
    let cluster = json!({
        "name": "bench", "issuer": ISSUER, "region": "eu-west-1", "accountId": "111122223333",
        "jwksFile": directory.join("jwks"),
    });
    Ok(json!({"clusters": [cluster], "associations": associations}).to_string())
}

async fn ready(admin: SocketAddr) -> Outcome {
    for _ in 0..200 {
        if ask(admin, "GET /readyz", &[], b"").await?.status == 200 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("the auth service did not become ready".into())
}

async fn exchanges(address: SocketAddr, bodies: &[String]) -> Outcome {
    let mut connection = Connection::open(address).await?;
    let (host, line) = (address.to_string(), "POST /clusters/bench/assume-role-for-pod-identity");
    for body in bodies {
        let length = body.len().to_string();
        let headers = [("Host", host.as_str()), ("Content-Length", &length)];
        let answer = connection.ask(line, &headers, body.as_bytes()).await?;
        if answer.status != 200 {
            return Err(answer.text().into());
        }
    }
    Ok(())
}

/// Returns two sums of the service's metrics: seconds of all responses, and seconds of STS calls.
async fn seconds(admin: SocketAddr) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let metrics = ask(admin, "GET /metrics", &[], b"").await?.text();
    let sum = |name: &str| -> Result<f64, Box<dyn std::error::Error>> {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("_sum "));
        Ok(line.ok_or_else(|| format!("no metric {name}"))?.parse()?)
    };
    Ok((sum("pod_identity_http_response_seconds")?, sum("pod_identity_sts_seconds")?))
}
