//! Cost of the webhook's service account lookup with a real API server: memory and time until readiness by the number
//! of service accounts, and the time that a read for each review adds to the creation of pods.
//!
//! The webhook is the released program in a separate process. A tenth of the service accounts has annotations.
//! `SERVICE_ACCOUNTS=1000` skips the larger numbers. The largest one takes minutes to create.

mod load;
mod webhook;

use std::time::{Duration, Instant};

use pod_identity_runtime::clock::monotonic;
use testing::cluster::{Cluster, namespace, service_account};

use self::load::{Load, Pods};
use self::webhook::Program;
use crate::Outcome;
use crate::measure::{Figures, aim};

/// Numbers of service accounts.
const SIZES: [usize; 3] = [1000, 10_000, 100_000];
/// Number of service accounts in a namespace.
const TO_A_NAMESPACE: usize = 100;
/// An eighth of the memory of AWS's webhook with 100,000 service accounts, in MB.
const RESIDENT: f64 = 22.0;
/// Maximum resident memory between the start and readiness with 100,000 service accounts, in MB.
const PEAK: f64 = 20.0;
/// Time of AWS's webhook from its start to its first correct patch with 100,000 service accounts, in seconds.
const READY: f64 = 1.3;
/// Maximum time that a read adds to a creation at 100 creations per second, in milliseconds.
const ADDED: f64 = 5.0;
/// Number of rounds with reads and without.
const ROUNDS: usize = 5;

/// The flag without reads of service accounts.
const NEVER: &str = "--service-account-read=never";
const FRESH: &str = "--service-account-read=fresh";

type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn run() -> Outcome {
    let most = match std::env::var("SERVICE_ACCOUNTS") {
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
        let without = program.start(NEVER).await?.resident()?;
        println!("  without service accounts: {without:.1} MB resident");
        let mut made = 0;
        for size in SIZES.into_iter().filter(|size| *size <= most) {
            make(&client, made, size).await?;
            made = size;
            let began: Instant = monotonic();
            let webhook = program.start(FRESH).await?;
            let ready = (monotonic() - began).as_secs_f64();
            let (resident, peak) = (webhook.resident()?, webhook.peak()?);
            println!(
                "  {size} service accounts: ready after {ready:.2} s, {resident:.1} MB resident, {peak:.1} MB at most"
            );
            if size == SIZES[2] {
                aim("MB resident with 100,000 service accounts, in addition to none", resident - without, RESIDENT);
                aim("MB at most until it is ready with 100,000 service accounts", peak, PEAK);
                aim("seconds until it is ready with 100,000 service accounts", ready, READY);
            }
        }
        let load = Load::new(client, &directory)?;
        added(&load, &program).await
    });
    measured.map_err(|error| -> Box<dyn std::error::Error> { error })
}

/// Creates the service accounts from one number to another.
async fn make(client: &kube::Client, from: usize, to: usize) -> Result<(), Error> {
    for number in from / TO_A_NAMESPACE..to / TO_A_NAMESPACE {
        namespace(client, &format!("n-{number}"), &[]).await;
        let service_accounts = (0..TO_A_NAMESPACE).map(|number_in_namespace| async move {
            let role = format!("arn:aws:iam::111122223333:role/team-{number}/app-{number_in_namespace}");
            let annotations = [("eks.amazonaws.com/role-arn", role.as_str())];
            let annotations = if number_in_namespace % 10 == 0 { &annotations[..] } else { &[] };
            service_account(
                client,
                &format!("n-{number}"),
                &format!("app-{number_in_namespace}"),
                annotations,
            )
            .await;
        });
        let mut service_accounts: Vec<_> = service_accounts.map(Box::pin).collect();
        while !service_accounts.is_empty() {
            let some = service_accounts.split_off(service_accounts.len().saturating_sub(25));
            futures_util::future::join_all(some).await;
        }
    }
    Ok(())
}

/// Measures the cost that a read for each review adds, for clients that create pods and for the API server.
async fn added(load: &Load, program: &Program) -> Result<(), Error> {
    let variants = [("no read", NEVER), ("reads", FRESH)];
    for pods in [Pods::OfManyServiceAccounts, Pods::OfOneServiceAccountAtOnce] {
        let mut rounds: [Vec<load::Round>; 2] = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (variant, (_, flag)) in variants.iter().enumerate() {
                let webhook = program.start(flag).await?;
                load.register(&webhook).await?;
                let measured = load.create(&webhook, pods).await?;
                load.unregister().await?;
                if round > 0 {
                    rounds[variant].push(measured);
                }
            }
        }
        println!("  1,000 pods {}:", pods.what());
        let median = |variant: usize, figure: fn(&load::Round) -> f64| {
            Figures::of(rounds[variant].iter().map(figure)).median()
        };
        for (variant, (name, _)) in variants.iter().enumerate() {
            println!(
                "    {name}: p50 {:.2} ms, p99 {:.2} ms, {:.0} reads, API server {:.2} ms of CPU a pod",
                median(variant, |round| round.p50),
                median(variant, |round| round.p99),
                median(variant, |round| round.reads),
                median(variant, |round| round.cpu),
            );
        }
        let more = |figure: fn(&load::Round) -> f64| median(1, figure) - median(0, figure);
        println!("    added: p50 {:.2} ms, p99 {:.2} ms", more(|round| round.p50), more(|round| round.p99));
        if pods == Pods::OfManyServiceAccounts {
            aim("milliseconds that a read adds to the p99", more(|round| round.p99), ADDED);
        }
    }
    Ok(())
}

/// Repeats a check until it succeeds. Returns `None` after `time`.
async fn within<T, F: Future<Output = Option<T>>>(time: Duration, mut check: impl FnMut() -> F) -> Option<T> {
    let checks = async {
        loop {
            if let Some(answer) = check().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(time, checks).await.ok()
}
