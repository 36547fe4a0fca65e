//! The identity caches of the SDK for Rust. A client gets credentials from its identity cache at each request. This
//! compares the cache of this project's provider with the SDK's own, with the same credentials.
//!
//! In a client, each call clones one resolver that all its threads share. So does each call here.

mod allocations;
mod client;
mod first_fetch;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_runtime::client::auth::no_auth::{NO_AUTH_SCHEME_ID, NoAuthScheme};
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime::client::identity::no_auth::NoAuthIdentityResolver;
use aws_smithy_runtime::client::orchestrator::endpoints::StaticUriEndpointResolver;
use aws_smithy_runtime::client::retries::strategy::NeverRetryStrategy;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use pod_identity_provider::PodIdentityCredentialsProvider;
use pod_identity_runtime::clock;
use tokio::runtime::{Builder, Runtime};

use crate::Outcome;
use crate::measure::{Pairs, aim, cpu_of, each, in_turn, pin};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A measurement of the cost of a call.
type Measure = fn(&Resolver) -> Result<Cost, Error>;

/// Nanoseconds for each call.
struct Cost {
    /// CPU time of all calling threads.
    cpu: f64,
    /// Wall-clock time of a thread for its calls, or of the whole process if tasks share threads.
    time: f64,
}

const ROUNDS: usize = 61;
const TIMES: u32 = 20_000;
/// Tasks that share two threads.
const TASKS: u32 = 64;
/// Number of calls after which a task yields, as a request does that waits for its response.
const CALLS_AT_A_TIME: u32 = 16;
/// Maximum CPU time of a call on one thread and on two, in nanoseconds. On two threads, all callers of a client also
/// count references in one resolver of the SDK, which no cache can avoid.
const MOST: f64 = 60.0;

pub(crate) fn run() -> Outcome {
    let mut greatest = 0.0_f64;
    for with_account_id in [true, false] {
        let which = if with_account_id { "with" } else { "without" };
        println!("  credentials {which} an AWS account id");
        let (ours, sdk) = (plain(Resolver::ours(with_account_id))?, plain(Resolver::sdk(with_account_id))?);
        let least = plain(Resolver::least(with_account_id))?;
        let variants: [(&str, Measure); 4] = [
            ("one thread", Resolver::on_one_thread),
            ("two threads", Resolver::on_two_threads),
            ("two threads with separate resolvers", Resolver::on_two_threads_with_a_resolver_each),
            ("64 tasks on two threads", Resolver::in_tasks),
        ];
        for (name, measure) in variants {
            let cpu = compare(name, measure, ("the SDK's", &sdk), ("ours", &ours))?;
            if !name.contains("tasks") {
                greatest = greatest.max(cpu.medians().1);
            }
            compare(name, measure, ("ours", &ours), ("a cache without logic", &least))?;
        }
        allocations::print(with_account_id);
    }
    aim("CPU of a call in ns, ours, the maximum of one thread and two,", greatest, MOST);
    first_fetch::run()?;
    client::run()
}

/// Prints the cost of a call with each cache, and returns the CPU times.
fn compare(
    name: &str,
    measure: Measure,
    one: (&str, &Resolver),
    other: (&str, &Resolver),
) -> Result<Pairs, Box<dyn std::error::Error>> {
    let rounds = in_turn(ROUNDS, || plain(measure(one.1)), || plain(measure(other.1)))?;
    let cpu = Pairs::of(&rounds, |cost| cost.cpu);
    cpu.print(&format!("CPU of a call, {name}"), one.0, other.0, "ns");
    Pairs::of(&rounds, |cost| cost.time).print(&format!("time of a call, {name}"), one.0, other.0, "ns");
    Ok(cpu)
}

/// Runs the part of a measurement that needs a separate process: [`allocations`] under valgrind, [`first_fetch`] with
/// environment variables.
pub(crate) fn in_own_process(arguments: &[String]) -> Outcome {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["calls", cache, with_account_id, times] => {
            plain(allocations::calls(cache, with_account_id, times.parse()?))
        }
        ["first-fetch"] => first_fetch::in_own_process(),
        _ => Err("internal arguments: see resolve.rs".into()),
    }
}

/// Converts an error into that of measurements.
fn plain<T>(outcome: Result<T, Error>) -> Result<T, Box<dyn std::error::Error>> {
    outcome.map_err(|error| error as _)
}

/// Makes credentials that are valid for a day, as the agent sends them.
fn credentials(with_account_id: bool) -> Credentials {
    let builder = Credentials::builder()
        .access_key_id("ASIAEXAMPLEEXAMPLE12")
        .secret_access_key("s".repeat(40))
        .session_token("t".repeat(1000))
        .expiry(clock::now() + Duration::from_secs(24 * 3600))
        .provider_name("bench");
    if with_account_id { builder.account_id("111122223333") } else { builder }.build()
}

fn ours(with_account_id: bool) -> PodIdentityCredentialsProvider {
    PodIdentityCredentialsProvider::builder()
        .methods([])
        .or_else("bench", credentials(with_account_id))
        .build()
}

#[derive(Debug)]
struct Fixed(Identity);

impl ResolveCachedIdentity for Fixed {
    fn resolve_cached_identity<'a>(
        &'a self,
        _: SharedIdentityResolver,
        _: &'a RuntimeComponents,
        _: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        IdentityFuture::ready(Ok(self.0.clone()))
    }
}

/// The data that a client's request uses.
struct Resolver {
    cache: SharedIdentityCache,
    provider: SharedCredentialsProvider,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    config: ConfigBag,
    runtime: Runtime,
    of_two_threads: Runtime,
}

impl Resolver {
    fn ours(with_account_id: bool) -> Result<Self, Error> {
        let provider = ours(with_account_id);
        let cache = provider.identity_cache();
        Self::new(SharedCredentialsProvider::new(provider), cache)
    }

    /// The default cache of a client (aws-smithy-runtime, `client/defaults.rs`).
    fn sdk(with_account_id: bool) -> Result<Self, Error> {
        Self::new(SharedCredentialsProvider::new(credentials(with_account_id)), IdentityCache::lazy().build())
    }

    /// A lower bound for every cache: it copies one identity and reads no clock.
    fn least(with_account_id: bool) -> Result<Self, Error> {
        let identity = Identity::from(credentials(with_account_id));
        Self::new(
            SharedCredentialsProvider::new(credentials(with_account_id)),
            SharedIdentityCache::new(Fixed(identity)),
        )
    }

    fn new(provider: SharedCredentialsProvider, cache: SharedIdentityCache) -> Result<Self, Error> {
        let components = RuntimeComponents::builder("bench")
            .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(Vec::new())))
            .with_auth_scheme(NoAuthScheme::new())
            .with_identity_resolver(NO_AUTH_SCHEME_ID, NoAuthIdentityResolver::new())
            .with_endpoint_resolver(Some(StaticUriEndpointResolver::http_localhost(1)))
            .with_identity_cache(Some(cache.clone()))
            .with_retry_strategy(Some(NeverRetryStrategy::new()))
            .with_time_source(Some(SystemTimeSource::new()))
            .with_sleep_impl(Some(TokioSleep::new()))
            .build()?;
        let processors = AtomicUsize::new(0);
        let of_two_threads = Builder::new_multi_thread()
            .worker_threads(2)
            .on_thread_start(move || pin(processors.fetch_add(1, Ordering::Relaxed) % 2))
            .enable_time()
            .build()?;
        Ok(Self {
            cache,
            resolver: SharedIdentityResolver::new(provider.clone()),
            provider,
            components,
            config: ConfigBag::base(),
            runtime: Builder::new_current_thread().enable_time().build()?,
            of_two_threads,
        })
    }

    async fn resolve_often(&self, resolver: &SharedIdentityResolver, times: u32) -> Result<(), Error> {
        for _ in 0..times {
            let call = self.cache.resolve_cached_identity(resolver.clone(), &self.components, &self.config);
            black_box(call.await?);
        }
        Ok(())
    }

    fn on_one_thread(&self) -> Result<Cost, Error> {
        self.on_this_thread(&self.runtime, &self.resolver)
    }

    fn on_this_thread(&self, runtime: &Runtime, resolver: &SharedIdentityResolver) -> Result<Cost, Error> {
        let started = clock::monotonic();
        let (done, cpu) = cpu_of(|| runtime.block_on(self.resolve_often(resolver, TIMES)));
        done?;
        Ok(Cost { cpu: each(cpu, TIMES), time: each(started.elapsed(), TIMES) })
    }

    /// The same on two threads at once, each with its own runtime.
    fn on_two_threads(&self) -> Result<Cost, Error> {
        self.on_two_threads_with([&self.resolver; 2])
    }

    /// The same with separate resolvers, as no client of the SDK does: the cost of the cache alone.
    fn on_two_threads_with_a_resolver_each(&self) -> Result<Cost, Error> {
        let resolvers = [0, 1].map(|_| SharedIdentityResolver::new(self.provider.clone()));
        self.on_two_threads_with([&resolvers[0], &resolvers[1]])
    }

    fn on_two_threads_with(&self, resolvers: [&SharedIdentityResolver; 2]) -> Result<Cost, Error> {
        let together = Barrier::new(2);
        let thread = |processor: usize| {
            pin(processor);
            let runtime = Builder::new_current_thread().enable_time().build()?;
            together.wait();
            self.on_this_thread(&runtime, resolvers[processor])
        };
        std::thread::scope(|scope| {
            let threads = [0, 1].map(|processor| scope.spawn(move || thread(processor)));
            let took =
                threads.map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into())));
            let [one, other] = took;
            let (one, other) = (one?, other?);
            Ok(Cost { cpu: f64::midpoint(one.cpu, other.cpu), time: f64::midpoint(one.time, other.time) })
        })
    }

    /// The same in many tasks, with the CPU time of the process.
    fn in_tasks(&self) -> Result<Cost, Error> {
        let (cache, resolver, components) = (&self.cache, &self.resolver, &self.components);
        let (before, started) = (process_cpu(), clock::monotonic());
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (cache, resolver, components) = (cache.clone(), resolver.clone(), components.clone());
                self.of_two_threads.spawn(async move {
                    let config = ConfigBag::base();
                    for _ in 0..TIMES / TASKS / CALLS_AT_A_TIME {
                        for _ in 0..CALLS_AT_A_TIME {
                            let call = cache.resolve_cached_identity(resolver.clone(), &components, &config);
                            black_box(call.await?);
                        }
                        tokio::task::yield_now().await;
                    }
                    Ok::<_, Error>(())
                })
            })
            .collect();
        self.runtime.block_on(async {
            for task in tasks {
                task.await??;
            }
            Ok::<_, Error>(())
        })?;
        let calls = TIMES / TASKS / CALLS_AT_A_TIME * CALLS_AT_A_TIME * TASKS;
        let cpu = each(process_cpu().saturating_sub(before), calls);
        Ok(Cost { cpu, time: each(started.elapsed(), calls) })
    }
}

fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
