//! Soak: for minutes, 250 pods with rotating tokens send 300 requests per second to the agent.
//!
//! Agent and auth service run in separate processes, through the entry points of their programs. The issuer and the
//! strict STS of `pod-identity-local` run in this one. It prints the resident memory and the open descriptors of both
//! every ten seconds. It fails if a request gets no credentials, or if memory or descriptors grow.
//!
//! With short lifetimes of tokens and sessions, both programs reach a steady state within two minutes. A pod replaces
//! its token every 60 seconds, and a token is valid for 90 seconds. STS grants sessions of two minutes, which the
//! agent renews after one.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use pod_identity_local::fixture::Fixture;
use pod_identity_local::sample::SAMPLE;
use pod_identity_local::services::{LocalConfig, LocalServices, Workload};
use pod_identity_runtime::{clock, logs, shutdown::Shutdown};
use testing::wire::{Answer, Connection};
use tokio::net::TcpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::Outcome;

const PODS: u32 = 250;
const SESSION_LIFETIME: Duration = Duration::from_secs(120);
/// Time in which the pods start one after the other, because no node gets 250 pods in one second.
const RAMP: Duration = Duration::from_secs(75);
/// Maximum time of a request. SDKs wait 1 to 2 seconds for container credentials.
const PATIENCE: Duration = Duration::from_secs(2);
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// Number of samples per minute.
const MINUTE: usize = 6;
/// Maximum growth of the median from the second minute to the last one: 5 % and 1 MiB, because an allocator keeps the
/// memory of a burst.
const MEMORY_GROWTH: f64 = 1.05;
const MEMORY_SLACK: u64 = 1024;
/// Maximum growth of the number of descriptors, because connections open and close.
const DESCRIPTOR_SLACK: u64 = 16;

/// First argument of the process that is the agent or the auth service.
pub(crate) const PART: &str = "soak-part";

/// The flags of `soak`.
#[derive(Debug, Clone, Parser)]
#[command(name = "soak")]
struct Args {
    /// Minutes, at least three: the first two are the warm-up.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(3..))]
    minutes: u32,
    /// Requests per second of all pods together.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Seconds after which a pod replaces its token.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    token_rotation: u64,
    /// Seconds for which a token is valid. The agent remembers the last eight tokens of each pod.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..))]
    token_lifetime: u64,
}

/// Runs the soak with the flags of the command line.
pub(crate) fn run(flags: &[String]) -> Outcome {
    let args = Args::try_parse_from(["soak"].into_iter().chain(flags.iter().map(String::as_str)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(soak(&args))
}

/// Runs a service until the process is killed.
pub(crate) fn run_part(arguments: &[String]) -> Outcome {
    match arguments.first().map(String::as_str) {
        Some("agent") => {
            use pod_identity_agent::{app::App, args};
            let args::Args { command: args::Command::Server(args), log_level, log_format } =
                args::Args::parse_from(arguments)
            else {
                return Err("want the command server".into());
            };
            let _flush = logs::start(log_level, log_format, &[]);
            // One thread, as in the agent's program.
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                let config = args.config()?;
                App::bind(config).await?.run(Shutdown::on_signal()?).await?;
                Ok(())
            })
        }
        Some("auth") => {
            use pod_identity_auth::{app::App, args::Args, sts};
            let args = Args::parse_from(arguments);
            let _flush = logs::start(args.log_level, args.log_format, &[]);
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
                let config = args.config()?;
                let sts = sts::client_from_environment(&config.outbound).await?;
                App::bind(config, sts).await?.run(Shutdown::on_signal()?).await?;
                Ok(())
            })
        }
        _ => Err("want part agent or auth".into()),
    }
}

/// A service in a separate process, which is killed on drop.
struct Part {
    name: &'static str,
    child: Child,
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// In KiB.
    resident: u64,
    descriptors: u64,
}

impl Part {
    fn start(name: &'static str, flags: &[&str], env: &[(&str, &str)]) -> std::io::Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args([PART, name])
            .args(flags)
            .env_clear()
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null()) // audit lines
            .spawn()?;
        Ok(Self { name, child, samples: Vec::new() })
    }

    fn sample(&mut self) -> Result<Sample, Box<dyn std::error::Error>> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("process {} ended: {status}", self.name).into());
        }
        let process = Path::new("/proc").join(self.child.id().to_string());
        let status = std::fs::read_to_string(process.join("status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|value| value.trim().strip_suffix(" kB")).ok_or("no VmRSS")?;
        let descriptors = std::fs::read_dir(process.join("fd"))?.count() as u64;
        let sample = Sample { resident: resident.parse()?, descriptors };
        self.samples.push(sample);
        Ok(sample)
    }

    /// Compares the last minute with the second one.
    fn check_level(&self) -> Outcome {
        let minute = |from: usize, what: fn(&Sample) -> u64| {
            let mut values: Vec<u64> = self.samples[from..from + MINUTE].iter().map(what).collect();
            values.sort_unstable();
            values[MINUTE / 2]
        };
        let last = self.samples.len() - MINUTE;
        let (before, after) = (minute(MINUTE, |s| s.resident), minute(last, |s| s.resident));
        println!("{}: {before} KiB in the second minute, {after} KiB in the last", self.name);
        if after as f64 > before as f64 * MEMORY_GROWTH + MEMORY_SLACK as f64 {
            return Err(
                format!("the memory of the {} grew from {before} KiB to {after} KiB", self.name).into()
            );
        }
        let (before, after) = (minute(MINUTE, |s| s.descriptors), minute(last, |s| s.descriptors));
        println!("{}: {before} descriptors in the second minute, {after} in the last", self.name);
        if after > before + DESCRIPTOR_SLACK {
            return Err(format!("the descriptors of the {} grew from {before} to {after}", self.name).into());
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Counts {
    good: AtomicU64,
    failed: AtomicU64,
}

async fn soak(args: &Args) -> Outcome {
    let associations = (0..PODS).map(|number| {
        format!(
            "  - {{clusterName: laptop, namespace: shop, serviceAccount: app-{number}, roleArn: 'arn:aws:iam::111122223333:role/app'}}\n"
        )
    });
    let fixture = Fixture::from_yaml(&associations.fold(SAMPLE.to_owned(), |all, one| all + &one))?;
    let caller = fixture.callers().next().ok_or("the sample has no caller")?;
    let caller_key = (caller.access_key_id.clone(), caller.secret_access_key.expose().to_owned());
    let laptop = LocalServices::start(
        fixture,
        LocalConfig { expire_after: Some(SESSION_LIFETIME), ..LocalConfig::default() },
    )
    .await?;
    let (mut auth, mut agent, address) = start_parts(&laptop, &caller_key).await?;

    let counts = Arc::new(Counts::default());
    let laptop = Arc::new(laptop);
    let between = Duration::from_secs(1) * PODS / args.rate;
    let begun = Instant::now();
    for number in 0..PODS {
        let workload = Workload::new(
            "shop".parse()?,
            format!("app-{number}").parse()?,
            format!("app-{number}-1").parse()?,
        )?;
        let pod = Pod {
            number,
            workload,
            laptop: laptop.clone(),
            agent: address,
            counts: counts.clone(),
            args: args.clone(),
        };
        tokio::spawn(pod.request_until_the_end(begun + RAMP * number / PODS, between));
    }
    println!("  time   requests  failed   agent            auth");
    for number in 1..=args.minutes as usize * MINUTE {
        sleep(begun + SAMPLE_EVERY * number as u32 - Instant::now()).await;
        let (agent, auth) = (agent.sample()?, auth.sample()?);
        let (good, failed) = (counts.good.load(Ordering::Relaxed), counts.failed.load(Ordering::Relaxed));
        println!(
            "{:>4} s  {:>9}  {failed:>6}   {:>6} KiB {:>4} fd  {:>6} KiB {:>4} fd",
            number * 10,
            good + failed,
            agent.resident,
            agent.descriptors,
            auth.resident,
            auth.descriptors,
        );
    }
    let failed = counts.failed.load(Ordering::Relaxed);
    let level = agent.check_level().and(auth.check_level());
    if failed > 0 {
        return Err(format!("{failed} requests got no credentials").into());
    }
    level
}

async fn start_parts(
    laptop: &LocalServices,
    caller: &(String, String),
) -> Result<(Part, Part, SocketAddr), Box<dyn std::error::Error>> {
    let (auth_port, agent_port) = (free_port()?, free_port()?);
    let listen = format!("127.0.0.1:{auth_port}");
    let key = laptop.agent_key();
    let keys_file = laptop.directory().join("soak-agent-keys.yaml");
    let keys = serde_json::json!([{
        "accessKeyId": key.access_key_id(), "secretAccessKey": key.secret_access_key(),
    }]);
    std::fs::write(&keys_file, keys.to_string())?;
    let associations = laptop.associations_file();
    let (associations, keys_file) = (associations.to_string_lossy(), keys_file.to_string_lossy());
    let admin = "127.0.0.1:0";
    let auth = Part::start(
        "auth",
        &[
            "--listen",
            &listen,
            "--admin",
            admin,
            "--associations",
            &associations,
            "--agent-auth",
            "sigv4",
            "--agent-keys-file",
            &keys_file,
            "--log-level",
            "warn",
        ],
        &[
            ("AWS_ENDPOINT_URL_STS", &laptop.sts_url()),
            ("AWS_REGION", laptop.region()),
            ("AWS_ACCESS_KEY_ID", &caller.0),
            ("AWS_SECRET_ACCESS_KEY", &caller.1),
        ],
    )?;
    let (port, endpoint, jwks) =
        (agent_port.to_string(), format!("http://{listen}"), laptop.issuer().jwks_uri());
    let agent = Part::start(
        "agent",
        &[
            "server",
            "--cluster-name",
            laptop.cluster().as_str(),
            "--port",
            &port,
            "--bind-hosts",
            "127.0.0.1",
            "--verbosity",
            "warn",
            "--probe-port",
            "0",
            "--endpoint",
            &endpoint,
            "--issuer",
            laptop.issuer().issuer(),
            "--jwks-url",
            &jwks,
        ],
        &[
            ("AWS_REGION", laptop.region()),
            ("AWS_ACCESS_KEY_ID", key.access_key_id()),
            ("AWS_SECRET_ACCESS_KEY", key.secret_access_key()),
        ],
    )?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, agent_port));
    for listening in [SocketAddr::from((Ipv4Addr::LOCALHOST, auth_port)), address] {
        let patience = Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(listening).await.is_err() {
            if Instant::now() > patience {
                return Err(format!("no server listens on {listening} after 20 s").into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok((auth, agent, address))
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A pod that requests credentials with its newest projected token.
struct Pod {
    number: u32,
    workload: Workload,
    laptop: Arc<LocalServices>,
    agent: SocketAddr,
    counts: Arc<Counts>,
    args: Args,
}

impl Pod {
    async fn request_until_the_end(self, from: Instant, between: Duration) {
        let mut ticks = interval_at(from, between);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut token = (String::new(), from);
        let rotation = Duration::from_secs(self.args.token_rotation);
        let lifetime = Duration::from_secs(self.args.token_lifetime);
        loop {
            ticks.tick().await;
            if token.0.is_empty() || token.1.elapsed() > rotation {
                match self.laptop.token(&self.workload, clock::now(), lifetime) {
                    Ok(text) => token = (text, Instant::now()),
                    Err(error) => return eprintln!("token not made: {error}"),
                }
            }
            let requested = timeout(PATIENCE, self.ask(&token.0)).await;
            let failure = match requested {
                Ok(Ok(answer)) if answer.status == 200 && answer.json()["AccessKeyId"].is_string() => {
                    self.counts.good.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Ok(Ok(answer)) => format!("status {}: {}", answer.status, answer.text()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no response within {PATIENCE:?}"),
            };
            if self.counts.failed.fetch_add(1, Ordering::Relaxed) < 10 {
                eprintln!("pod {}: {failure}", self.number);
            }
        }
    }

    /// Sends one request on a new connection from the pod's own address, as an SDK does.
    async fn ask(&self, token: &str) -> std::io::Result<Answer> {
        let socket = TcpSocket::new_v4()?;
        let [high, low] = (self.number as u16 + 1).to_be_bytes();
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0)))?;
        let stream = socket.connect(self.agent).await?;
        stream.set_nodelay(true)?;
        let headers = [("Host", "127.0.0.1"), ("Authorization", token), ("Connection", "close")];
        Connection::over(stream).ask("GET /v1/credentials", &headers, b"").await
    }
}
