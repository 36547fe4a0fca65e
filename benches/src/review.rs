//! A review at the webhook, over TLS on persistent connections, against a bare hyper server with the same TLS, request
//! bodies and responses. The difference is the cost of the decision about a pod. The service account is in a file, or a
//! stand-in for an API server returns it to the read of each review.

mod api_server;
mod bare;
mod load;

use std::path::PathBuf;

use benches::reviews::{SERVICE_ACCOUNT, review, review_after_kubectl_apply};
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
/// Concurrent connections, and a single one, as in the measurement of AWS's webhook.
const CONNECTIONS: [usize; 2] = [8, 1];
/// The aim: the CPU of the webhook in relation to that of the bare server.
const RATIO: f64 = 1.5;

pub(crate) fn run() -> Outcome {
    let authority = Authority::new();
    authority.write_pair();
    let (namespace, name) = SERVICE_ACCOUNT;
    let api_server = format!("http://{}", api_server::start(namespace, name)?);
    let (file, fresh) = (Source::File, Source::ApiServer(api_server));
    let (plain, applied) = (review(), review_after_kubectl_apply());
    println!("  a review of {} bytes, and of {} with last-applied-configuration", plain.len(), applied.len());
    pin(0);
    for (what, path, body, source) in [
        ("a service account in a file", "/mutate", &plain, &file),
        ("a service account in a file, with last-applied-configuration", "/mutate", &applied, &file),
        ("a namespace that always injects Pod Identity", "/mutate/inject", &plain, &file),
        ("a service account read from the API server", "/mutate", &plain, &fresh),
    ] {
        for connections in CONNECTIONS {
            let what = format!("{what}, {connections} at once");
            compare(&what, &authority, path, body, source, connections)?;
        }
    }
    Ok(())
}

/// The source of the service account's role.
enum Source {
    /// The file of service accounts with Pod Identity.
    File,
    /// The API server at this URL, for each review.
    ApiServer(String),
}

/// Starts the whole webhook, as its program does.
fn webhook(authority: &Authority, source: &Source) -> Result<Served, Box<dyn std::error::Error>> {
    let files = tempfile::tempdir()?;
    let identities: PathBuf = files.path().join("identities.json");
    let (namespace, service_account) = SERVICE_ACCOUNT;
    let known = format!(
        r#"{{"identities": [{{"namespace": "{namespace}", "serviceAccount": "{service_account}"}}]}}"#
    );
    std::fs::write(&identities, known)?;
    let of_source = match source {
        Source::File => vec![
            "--service-account-read=never".to_owned(),
            "--kube-api=http://127.0.0.1:9".to_owned(), // no server listens there
            format!("--watch-container-credentials-config={}", identities.display()),
        ],
        Source::ApiServer(url) => vec![format!("--kube-api={url}")],
    };
    let own = [
        "webhook".to_owned(),
        "--in-cluster=false".to_owned(),
        "--port=0".to_owned(),
        "--metrics-port=0".to_owned(),
        "--max-requests-per-peer=0".to_owned(),
        format!("--tls-cert={}", authority.certificate_file().display()),
        format!("--tls-key={}", authority.key_file().display()),
    ];
    let flags = own.into_iter().chain(of_source);
    let webhook = serve(move || async move {
        let app = App::bind(parse(flags)?.config()?).await?;
        let address = (std::net::Ipv4Addr::LOCALHOST, app.address()?.port()).into();
        tokio::spawn(app.run(Shutdown::never()));
        Ok(vec![address])
    })?;
    Ok(webhook.with_files(files))
}

/// The results of one round, in microseconds.
struct Round {
    /// CPU of the server for a review.
    cpu: f64,
    /// Time from the first byte of a review to the last byte of its response: the median and the 99th percentile.
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

fn compare(
    what: &str,
    authority: &Authority,
    path: &str,
    body: &[u8],
    source: &Source,
    connections: usize,
) -> Outcome {
    let webhook = webhook(authority, source)?;
    let (mut at_webhook, answer) = Load::start(webhook.addresses[0], authority, path, body, connections)?;
    let server_tls = bare::server_tls(authority)?;
    let bare = serve(move || async move { Ok(vec![bare::serve(answer, server_tls).await?]) })?;
    let (mut at_bare, _) = Load::start(bare.addresses[0], authority, path, body, connections)?;

    let rounds = in_turn(ROUNDS, || round(&webhook, &mut at_webhook), || round(&bare, &mut at_bare))?;
    let cpu = Pairs::of(&rounds, |round| round.cpu);
    cpu.print(&format!("CPU of a review, {what}"), "webhook", "bare", "µs");
    Pairs::of(&rounds, |round| round.median).print("  the client's median", "webhook", "bare", "µs");
    Pairs::of(&rounds, |round| round.most).print("  the client's 99th percentile", "webhook", "bare", "µs");
    aim("times the CPU of the bare server", cpu.ratio(), RATIO);
    Ok(())
}
