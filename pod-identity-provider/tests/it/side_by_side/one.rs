//! One request of one provider, in a process of its own.

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns};
use aws_smithy_runtime_api::client::identity::SharedIdentityCache;
use pod_identity_provider::PodIdentityCredentialsProvider;

use super::client::Resolver;
use super::{Implementation, Job, JobResult, RESULT_PREFIX, job};

/// More than the time of three attempts of five seconds with their pauses.
const TIME_LIMIT: Duration = Duration::from_secs(25);

#[tokio::test]
#[ignore = "started in a child process by table_in_the_readme_is_current"]
async fn one_provider_fetches_once() {
    let Some(job) = job() else { return };
    let (provider, cache) = job.provider();
    let start = tokio::time::Instant::now();
    let result = tokio::time::timeout(TIME_LIMIT, async {
        if job.through_cache {
            let resolver = Resolver::new(provider, cache, SystemTimeSource::new());
            resolver.resolve().await.map(drop).map_err(|error| chain(&*error))
        } else {
            provider.provide_credentials().await.map(drop).map_err(|error| chain(&error))
        }
    })
    .await
    .ok();
    let error = result.clone().and_then(Result::err).unwrap_or_default();
    let millis = u64::try_from(start.elapsed().as_millis()).unwrap();
    let outcome = JobResult { credentials: result.map(|result| result.is_ok()), error, millis };
    println!("{RESULT_PREFIX}{}", serde_json::to_string(&outcome).unwrap());
}

/// A resolver that returns the same address for every name.
#[derive(Debug)]
struct FixedResolver(IpAddr);

impl ResolveDns for FixedResolver {
    fn resolve_dns<'a>(&'a self, _: &'a str) -> DnsFuture<'a> {
        DnsFuture::ready(Ok(vec![self.0]))
    }
}

/// Returns the text of an error and of its sources.
fn chain(error: &(dyn Error + 'static)) -> String {
    let all = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl Job {
    fn provider(&self) -> (SharedCredentialsProvider, Option<SharedIdentityCache>) {
        let limit = self.attempt_ms.map(Duration::from_millis);
        match self.implementation {
            Implementation::ThisCrate => {
                let mut builder = PodIdentityCredentialsProvider::builder();
                if let Some(limit) = limit {
                    builder = builder.attempt_timeout(limit).deadline(Duration::from_secs(2));
                }
                if let Some(address) = self.dns {
                    builder = builder.dns(FixedResolver(address));
                }
                let provider = builder.build();
                let cache = provider.identity_cache();
                (SharedCredentialsProvider::new(provider), Some(cache))
            }
            Implementation::Sdk => {
                let config = ProviderConfig::empty()
                    .with_http_client(Builder::new().build_http())
                    .with_sleep_impl(TokioSleep::new());
                let mut builder = EcsCredentialsProvider::builder().configure(&config);
                if let Some(limit) = limit {
                    builder = builder.connect_timeout(limit).read_timeout(limit);
                }
                (SharedCredentialsProvider::new(builder.build()), None)
            }
        }
    }
}
