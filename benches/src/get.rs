//! A cached GET at the agent, against a bare hyper server with the same requests and responses. The difference is the
//! cost of the agent in addition to HTTP.

pub(crate) mod bare;
mod load;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use pod_identity_agent::app::App;
use pod_identity_agent::config::TokenKeys;
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyLocation};
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;

use self::load::Load;
use crate::Outcome;
use crate::measure::{Pairs, aim, each, in_turn, pin};
use crate::pods::{ISSUER, pod, token};
use crate::served::{Served, serve};
use crate::upstream::{Upstream, agent_config};

/// Number of pods of a large node (Kubernetes recommends at most 110).
const PODS: usize = 110;
const ROUNDS: usize = 41;
const REQUESTS: u32 = 110 * 50;
/// The aims of the project's design: CPU of a request, and requests per second.
const CPU_RATIO: f64 = 1.25;
const THROUGHPUT_RATIO: f64 = 0.87;

pub(crate) fn run() -> Outcome {
    let issuer = Issuer::new(ISSUER, "http://127.0.0.1:1", KeyAlgorithm::Rs256)?;
    let tokens = (0..PODS).map(|number| token(&issuer, &pod(number)?)).collect::<Result<Vec<_>, _>>()?;
    pin(0);
    for (mode, keys) in [("tokens verified by keys", true), ("tokens accepted by EKS Auth", false)] {
        compare(mode, agent(keys.then(|| issuer.jwks()))?, &tokens)?;
    }
    Ok(())
}

/// Starts the whole agent, as its program does.
fn agent(jwks: Option<Vec<u8>>) -> Result<Served, Box<dyn std::error::Error>> {
    let upstream = serve(|| async { Ok(vec![Arc::new(Upstream::default()).serve().await?]) })?;
    let files = tempfile::tempdir()?;
    let directory = files.path().to_owned();
    let agent = serve(move || async move {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = agent_config(upstream.addresses[0], vec![loopback], &directory.join("token"))?;
        if let Some(jwks) = jwks {
            let file = directory.join("jwks");
            std::fs::write(&file, jwks)?;
            config.keys = TokenKeys::Configured(vec![IssuerConfig {
                issuer: ISSUER.to_owned(),
                keys: KeyLocation::File(file),
                bearer_token_file: None,
                outbound: Outbound::default(),
            }]);
        }
        let app = App::bind(config).await?;
        let addresses = app.addresses();
        tokio::spawn(app.run(Shutdown::never()));
        Ok(addresses)
    })?;
    Ok(agent.with_files(files))
}

/// The results of one round.
struct Round {
    /// CPU of the server for a request, in microseconds.
    cpu: f64,
    /// Requests per millisecond.
    throughput: f64,
}

fn round(served: &Served, load: &mut Load) -> Result<Round, Box<dyn std::error::Error>> {
    let before = served.cpu()?;
    let took = load.send(REQUESTS)?;
    let cpu = each(served.cpu()? - before, REQUESTS) / 1e3;
    Ok(Round { cpu, throughput: 1e6 / each(took, REQUESTS) })
}

fn compare(mode: &str, agent: Served, tokens: &[String]) -> Outcome {
    let (mut at_agent, answer) = Load::start(agent.addresses[0], tokens)?;
    let bare = serve(move || async move { Ok(vec![bare::serve(answer).await?]) })?;
    let (mut at_bare, _) = Load::start(bare.addresses[0], tokens)?;
    at_agent.check_same_bytes(&mut at_bare)?;

    let rounds = in_turn(ROUNDS, || round(&agent, &mut at_agent), || round(&bare, &mut at_bare))?;
    let cpu = Pairs::of(&rounds, |round| round.cpu);
    let throughput = Pairs::of(&rounds, |round| round.throughput);
    cpu.print(&format!("CPU of a request, {mode}"), "agent", "bare", "µs");
    throughput.print(&format!("throughput, {mode}"), "agent", "bare", "thousand/s");
    // A server that is always busy serves one request in its CPU time.
    let (busy, bare_busy) = Pairs::of(&rounds, |round| round.cpu * round.throughput / 10.0).medians();
    println!(
        "  the servers were busy {busy:.0} % and {bare_busy:.0} % of the time: below 90 % the load limits the throughput",
    );
    aim("CPU ratio", cpu.ratio(), CPU_RATIO);
    aim("throughput, bare to agent,", 1.0 / throughput.ratio(), 1.0 / THROUGHPUT_RATIO);
    Ok(())
}
