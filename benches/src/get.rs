//! A cached GET at the real agent, against a bare hyper server that is sent the same headers and
//! answers the same bytes: what the rules cost beside HTTP itself.

mod bare;
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
use crate::measure::{Pairs, aim, each, pin};
use crate::pods::{ISSUER, pod, token};
use crate::served::{Served, serve};
use crate::upstream::{Upstream, agent_config};
use crate::{Outcome, measure};

/// As many pods as a large node has (Kubernetes recommends at most 110 for each).
const PODS: usize = 110;
const ROUNDS: usize = 41;
const REQUESTS: u32 = 110 * 50;
/// The aims, from the project's design: CPU of a request, and requests in a second.
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

/// The whole agent, as its binary runs it.
fn agent(jwks: Option<Vec<u8>>) -> Result<Served, Box<dyn std::error::Error>> {
    let upstream = serve(|| async { Ok(vec![Arc::new(Upstream::default()).serve().await?]) })?;
    serve(move || async move {
        let directory = tempfile::tempdir()?.keep();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = agent_config(upstream.addresses[0], vec![loopback], &directory.join("token"))?;
        if let Some(jwks) = jwks {
            let file = directory.join("jwks");
            std::fs::write(&file, jwks)?;
            config.keys = TokenKeys::Configured(IssuerConfig {
                issuer: ISSUER.to_owned(),
                keys: KeyLocation::File(file),
                bearer_token_file: None,
                outbound: Outbound::default(),
            });
        }
        let app = App::bind(config).await?;
        let addresses = app.addresses();
        tokio::spawn(app.run(Shutdown::never()));
        Ok(addresses)
    })
}

fn compare(mode: &str, agent: Served, tokens: &[String]) -> Outcome {
    let (mut at_agent, answer) = Load::start(agent.addresses[0], tokens)?;
    let bare = serve(move || async move { Ok(vec![bare::serve(answer).await?]) })?;
    let (mut at_bare, _) = Load::start(bare.addresses[0], tokens)?;
    at_agent.check_same_bytes(&mut at_bare)?;

    let mut failed = None;
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    let mut measured = |served: &Served, load: &mut Load| -> (f64, f64) {
        let mut round = || -> Result<_, Box<dyn std::error::Error>> {
            let before = served.cpu()?;
            let took = load.send(REQUESTS)?;
            Ok((each(served.cpu()? - before, REQUESTS) / 1e3, each(took, REQUESTS) / 1e3))
        };
        round().unwrap_or_else(|error| {
            failed = Some(error);
            (f64::NAN, f64::NAN)
        })
    };
    for round in 0..=ROUNDS {
        let (a, b) = if round.is_multiple_of(2) {
            let a = measured(&agent, &mut at_agent);
            (a, measured(&bare, &mut at_bare))
        } else {
            let b = measured(&bare, &mut at_bare);
            (measured(&agent, &mut at_agent), b)
        };
        if round > 0 {
            cpu.push((a.0, b.0));
            wall.push((1e3 / a.1, 1e3 / b.1));
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let (cpu, wall) = (Pairs(cpu), Pairs(wall));
    cpu.print(&format!("CPU of a request, {mode}"), "agent", "bare", "µs");
    wall.print(&format!("throughput, {mode}"), "agent", "bare", "thousand/s");
    let busy =
        |pairs: &Pairs, of: fn(&(f64, f64)) -> f64| measure::Figures::of(pairs.0.iter().map(of)).median();
    println!(
        "  the servers were busy {:.0} % and {:.0} % of the time: below 90 % the load is what limits throughput",
        busy(&cpu, |pair| pair.0) * busy(&wall, |pair| pair.0) / 10.0,
        busy(&cpu, |pair| pair.1) * busy(&wall, |pair| pair.1) / 10.0,
    );
    aim("CPU ratio", cpu.ratio(), CPU_RATIO);
    aim("throughput, bare to agent,", 1.0 / wall.ratio(), 1.0 / THROUGHPUT_RATIO);
    Ok(())
}
