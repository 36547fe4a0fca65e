//! What it costs the webhook to know accounts, with a real API server: memory and the time until it is ready, by
//! the number of accounts; and what reading an account for each review adds to the creation of pods.
//!
//! The webhook is the program that ships, in a process of its own. A tenth of the accounts has annotations.
//! `ACCOUNTS=1000` leaves out the larger numbers, of which the largest takes minutes to make.

mod load;
mod webhook;

use std::time::{Duration, Instant};

use pod_identity_runtime::clock::monotonic;
use testing::cluster::{Cluster, account, namespace};

use self::load::{Load, Pods};
use self::webhook::Program;
use crate::Outcome;
use crate::measure::{Figures, aim};

/// How many accounts there are, one number after the other.
const SIZES: [usize; 3] = [1000, 10_000, 100_000];
/// How many accounts a namespace has.
const TO_A_NAMESPACE: usize = 100;
/// An eighth of what AWS's webhook needs with 100,000, in MB.
const RESIDENT: f64 = 22.0;
/// Maximum resident memory between the start and readiness with 100,000 service accounts, in MB.
const PEAK: f64 = 20.0;
/// AWS's webhook from its start to its first right patch with 100,000, in seconds.
const READY: f64 = 1.3;
/// What a read may add to a creation at 100 a second, in milliseconds.
const ADDED: f64 = 5.0;
/// How often pods are created with and without reads.
const ROUNDS: usize = 5;

/// Whether accounts are read.
const NEVER: &str = "--service-account-read=never";
const FRESH: &str = "--service-account-read=fresh";

type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn run() -> Outcome {
    let most = match std::env::var("ACCOUNTS") {
        Ok(text) => text.parse()?,
        Err(_) => SIZES[2],
    };
    let program = webhook::build()?;
    let Some(cluster) = Cluster::start() else { return Err("there is no control plane".into()) };
    let kubeconfig = cluster.kubeconfig();
    let directory = kubeconfig.parent().map(std::path::Path::to_owned).unwrap_or_default();
    let measured = cluster.run(async move || {
        let client = testing::cluster::client(&kubeconfig).await;
        let program = Program { path: program, kubeconfig };
        let nothing = program.start(NEVER).await?.resident()?;
        println!("  without accounts: {nothing:.1} MB resident");
        let mut there = 0;
        for size in SIZES.into_iter().filter(|size| *size <= most) {
            make(&client, there, size).await?;
            there = size;
            let began: Instant = monotonic();
            let webhook = program.start(FRESH).await?;
            let ready = (monotonic() - began).as_secs_f64();
            let (resident, peak) = (webhook.resident()?, webhook.peak()?);
            println!(
                "  {size} accounts: ready after {ready:.2} s, {resident:.1} MB resident, {peak:.1} MB at most"
            );
            if size == SIZES[2] {
                aim("MB resident with 100,000 accounts above none", resident - nothing, RESIDENT);
                aim("MB at most until it is ready with 100,000 accounts", peak, PEAK);
                aim("seconds until it is ready with 100,000 accounts", ready, READY);
            }
        }
        let load = Load::new(client, &directory)?;
        added(&load, &program).await
    });
    measured.map_err(|error| -> Box<dyn std::error::Error> { error })
}

/// Makes those that are not there yet.
async fn make(client: &kube::Client, from: usize, to: usize) -> Result<(), Error> {
    for number in from / TO_A_NAMESPACE..to / TO_A_NAMESPACE {
        namespace(client, &format!("n-{number}"), &[]).await;
        let accounts = (0..TO_A_NAMESPACE).map(|account_number| async move {
            let role = format!("arn:aws:iam::111122223333:role/team-{number}/app-{account_number}");
            let annotations = [("eks.amazonaws.com/role-arn", role.as_str())];
            let annotations = if account_number % 10 == 0 { &annotations[..] } else { &[] };
            account(client, &format!("n-{number}"), &format!("app-{account_number}"), annotations).await;
        });
        let mut accounts: Vec<_> = accounts.map(Box::pin).collect();
        while !accounts.is_empty() {
            let some = accounts.split_off(accounts.len().saturating_sub(25));
            futures_util::future::join_all(some).await;
        }
    }
    Ok(())
}

/// What a read for each review adds, to who creates pods and to the API server.
async fn added(load: &Load, program: &Program) -> Result<(), Error> {
    let ways = [("no read", NEVER), ("reads", FRESH)];
    for pods in [Pods::OfManyAccounts, Pods::OfOneAccountAtOnce] {
        let mut rounds: [Vec<load::Round>; 2] = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (way, (_, flag)) in ways.iter().enumerate() {
                let webhook = program.start(flag).await?;
                load.register(&webhook).await?;
                let measured = load.create(&webhook, pods).await?;
                load.unregister().await?;
                if round > 0 {
                    rounds[way].push(measured);
                }
            }
        }
        println!("  1,000 pods {}:", pods.what());
        let median = |way: usize, figure: fn(&load::Round) -> f64| {
            Figures::of(rounds[way].iter().map(figure)).median()
        };
        for (way, (name, _)) in ways.iter().enumerate() {
            println!(
                "    {name}: p50 {:.2} ms, p99 {:.2} ms, {:.0} reads, API server {:.2} ms of CPU a pod",
                median(way, |round| round.p50),
                median(way, |round| round.p99),
                median(way, |round| round.reads),
                median(way, |round| round.cpu),
            );
        }
        let more = |figure: fn(&load::Round) -> f64| median(1, figure) - median(0, figure);
        println!("    added: p50 {:.2} ms, p99 {:.2} ms", more(|round| round.p50), more(|round| round.p99));
        if pods == Pods::OfManyAccounts {
            aim("milliseconds that a read adds to the p99", more(|round| round.p99), ADDED);
        }
    }
    Ok(())
}

/// Waits for what has to happen soon; `None` after that long.
async fn within<T, F: Future<Output = Option<T>>>(time: Duration, mut ask: impl FnMut() -> F) -> Option<T> {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(time, asked).await.ok()
}
