//! 64 concurrent first requests of one pod over IPv4 and IPv6: time from the upstream's response until all are served.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pod_identity_agent::app::App;
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_runtime::clock;
use pod_identity_runtime::shutdown::Shutdown;
use testing::wire::Connection;

use crate::Outcome;
use crate::measure::{Figures, aim};
use crate::pods::{pod, token};
use crate::served::serve;
use crate::upstream::{Upstream, agent_config};

const REQUESTS: usize = 64;
const ROUNDS: usize = 40;
/// Time of the upstream, long enough for all requests to arrive.
const UPSTREAM: Duration = Duration::from_millis(50);
/// The aim, from the project's design, in milliseconds.
const WITHIN: f64 = 5.0;

pub(crate) fn run() -> Outcome {
    let upstream = Arc::new(Upstream::after(UPSTREAM));
    let of_server = upstream.clone();
    let at = serve(|| async move { Ok(vec![of_server.serve().await?]) })?.addresses[0];
    let files = tempfile::tempdir()?;
    let token_file = files.path().join("token");
    let agent = serve(move || async move {
        let listen =
            [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].map(|host| SocketAddr::new(host, 0));
        let app = App::bind(agent_config(at, listen.to_vec(), &token_file)?).await?;
        let addresses = app.addresses();
        tokio::spawn(app.run(Shutdown::never()));
        Ok(addresses)
    })?
    .with_files(files);
    if agent.addresses.len() != 2 {
        return Err("this machine has no IPv6".into());
    }

    let issuer = Issuer::new(crate::pods::ISSUER, "http://127.0.0.1:1", KeyAlgorithm::Rs256)?;
    let clients = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut milliseconds = Vec::new();
    for round in 0..ROUNDS {
        let token = token(&issuer, &pod(round)?)?;
        let calls = upstream.calls();
        let last = clients.block_on(request_concurrently(&agent.addresses, &token))?;
        if upstream.calls() != calls + 1 {
            return Err(format!("{} calls for concurrent requests", upstream.calls() - calls).into());
        }
        let responded = upstream.responded().ok_or("the upstream was not called")?;
        milliseconds.push(last.duration_since(responded).as_secs_f64() * 1e3);
    }
    let took = Figures::of(milliseconds);
    println!(
        "  all {REQUESTS} responses after the upstream's: median {:.2} ms, nine in ten within {:.2} ms, at most {:.2} ms",
        took.median(),
        took.quantile(0.9),
        took.quantile(1.0)
    );
    aim("median, in milliseconds,", took.median(), WITHIN);
    Ok(())
}

/// Sends all requests at once, and returns the time of the last response.
async fn request_concurrently(
    addresses: &[SocketAddr],
    token: &str,
) -> Result<std::time::Instant, Box<dyn std::error::Error>> {
    let mut connections = Vec::new();
    for number in 0..REQUESTS {
        let address = addresses[number % addresses.len()];
        let mut connection = Connection::open(address).await?;
        let head =
            format!("GET /v1/credentials HTTP/1.1\r\nHost: {address}\r\nAuthorization: {token}\r\n\r\n");
        connection.send(head.as_bytes()).await?;
        connections.push(connection);
    }
    for connection in &mut connections {
        let answer = connection.answer().await?;
        if answer.status != 200 {
            return Err(answer.text().into());
        }
    }
    Ok(clock::monotonic())
}
