//! The identity cache of a client.

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime::client::auth::no_auth::{NO_AUTH_SCHEME_ID, NoAuthScheme};
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime::client::identity::no_auth::NoAuthIdentityResolver;
use aws_smithy_runtime::client::orchestrator::endpoints::StaticUriEndpointResolver;
use aws_smithy_runtime::client::retries::strategy::NeverRetryStrategy;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::identity::{
    Identity, ResolveCachedIdentity as _, SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// A provider with an identity cache. The default is the SDK's default cache (aws-smithy-runtime, `client/defaults.rs`).
#[derive(Clone)]
pub(super) struct Resolver {
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
}

impl Resolver {
    pub(super) fn new(
        provider: SharedCredentialsProvider,
        cache: Option<SharedIdentityCache>,
        time: impl TimeSource + 'static,
    ) -> Self {
        let cache = cache.unwrap_or_else(|| IdentityCache::lazy().build());
        let components = RuntimeComponents::builder("test")
            .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(Vec::new())))
            .with_auth_scheme(NoAuthScheme::new())
            .with_identity_resolver(NO_AUTH_SCHEME_ID, NoAuthIdentityResolver::new())
            .with_endpoint_resolver(Some(StaticUriEndpointResolver::http_localhost(0)))
            .with_identity_cache(Some(cache.clone()))
            .with_retry_strategy(Some(NeverRetryStrategy::new()))
            .with_time_source(Some(time))
            .with_sleep_impl(Some(TokioSleep::new()));
        Self {
            cache,
            resolver: SharedIdentityResolver::new(provider),
            components: components.build().unwrap(),
        }
    }

    pub(super) async fn resolve(&self) -> Result<Identity, BoxError> {
        let resolver = self.resolver.clone();
        self.cache.resolve_cached_identity(resolver, &self.components, &ConfigBag::base()).await
    }
}
