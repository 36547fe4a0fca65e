//! A review at the real webhook, over TLS on connections that are kept, against a bare hyper server with the
//! same TLS that reads the same bodies and answers the same bytes: what deciding about a pod costs beside HTTP
//! and TLS themselves. The account is known from a file, so nothing but the two is in the figure.

mod bare;
mod load;

use std::path::PathBuf;

use benches::reviews::{ACCOUNT, review};
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_webhook::app::App;
use pod_identity_webhook::args::parse;
use testing::authority::Authority;

use self::load::Load;
use crate::Outcome;
use crate::measure::{Figures, Pairs, aim, each, in_turn, pin};
use crate::served::{Served, serve};

const ROUNDS: usize = 41;
const REVIEWS: u32 = 2000;
/// Connections that are busy at once, and one alone, as AWS's webhook was measured.
const CONNECTIONS: [usize; 2] = [8, 1];
/// The aim, from the project's design: microseconds of CPU.
const CPU: f64 = 45.0;

pub(crate) fn run() -> Outcome {
    let authority = Authority::new();
    authority.write_pair();
    let body = review();
    println!("  a review of {} bytes", body.len());
    pin(0);
    for (what, path) in [
        ("an account in a file", "/mutate"),
        ("a namespace that asks for Pod Identity always", "/mutate/inject"),
    ] {
        for connections in CONNECTIONS {
            compare(&format!("{what}, {connections} at once"), &authority, path, &body, connections)?;
        }
    }
    Ok(())
}

/// The whole webhook, as its binary runs it.
fn webhook(authority: &Authority) -> Result<Served, Box<dyn std::error::Error>> {
    let files = tempfile::tempdir()?;
    let identities: PathBuf = files.path().join("identities.json");
    let (namespace, account) = ACCOUNT;
    let known =
        format!(r#"{{"identities": [{{"namespace": "{namespace}", "serviceAccount": "{account}"}}]}}"#);
    std::fs::write(&identities, known)?;
    let flags = [
        "webhook".to_owned(),
        "--in-cluster=false".to_owned(),
        "--port=0".to_owned(),
        "--metrics-port=0".to_owned(),
        "--max-requests-per-peer=0".to_owned(),
        "--service-account-read=never".to_owned(),
        "--kube-api=http://127.0.0.1:9".to_owned(), // nobody is there
        format!("--tls-cert={}", authority.certificate_file().display()),
        format!("--tls-key={}", authority.key_file().display()),
        format!("--watch-container-credentials-config={}", identities.display()),
    ];
    let webhook = serve(move || async move {
        let app = App::bind(parse(flags)?.config()?).await?;
        let address = (std::net::Ipv4Addr::LOCALHOST, app.address()?.port()).into();
        tokio::spawn(app.run(Shutdown::never()));
        Ok(vec![address])
    })?;
    Ok(webhook.with_files(files))
}

/// What a review took in one round, in microseconds.
struct Round {
    /// Of the server's CPU.
    cpu: f64,
    /// From its first byte to the last of its answer: the median, and what 99 of 100 stay below.
    median: f64,
    most: f64,
}

fn round(served: &Served, load: &mut Load) -> Result<Round, Box<dyn std::error::Error>> {
    let before = served.cpu()?;
    let took = load.send(REVIEWS)?;
    let cpu = each(served.cpu()? - before, REVIEWS) / 1e3;
    let took = Figures::of(took.into_iter().map(|took| took.as_secs_f64() * 1e6));
    Ok(Round { cpu, median: took.median(), most: took.quantile(0.99) })
}

fn compare(what: &str, authority: &Authority, path: &str, body: &[u8], connections: usize) -> Outcome {
    let webhook = webhook(authority)?;
    let (mut at_webhook, answer) = Load::start(webhook.addresses[0], authority, path, body, connections)?;
    let server_tls = bare::server_tls(authority)?;
    let bare = serve(move || async move { Ok(vec![bare::serve(answer, server_tls).await?]) })?;
    let (mut at_bare, _) = Load::start(bare.addresses[0], authority, path, body, connections)?;

    let rounds = in_turn(ROUNDS, || round(&webhook, &mut at_webhook), || round(&bare, &mut at_bare))?;
    let cpu = Pairs::of(&rounds, |round| round.cpu);
    cpu.print(&format!("CPU of a review, {what}"), "webhook", "bare", "µs");
    Pairs::of(&rounds, |round| round.median).print("  the client's median", "webhook", "bare", "µs");
    Pairs::of(&rounds, |round| round.most).print("  the client's 99th of 100", "webhook", "bare", "µs");
    aim("microseconds of CPU", cpu.medians().0, CPU);
    Ok(())
}
