//! The local services, and a simulated pod with environment variables and a token file.

use std::time::Duration;

use pod_identity_local::fixture::Fixture;
use pod_identity_local::services::{LocalConfig, LocalServices, Workload, write_private};
use pod_identity_runtime::clock;
use pod_identity_runtime::outbound::Outbound;
use serde_json::Value;

/// The fixture file of the tests.
pub(crate) const FIXTURE: &str = include_str!("fixture.yaml");

/// Lifetime of a pod token.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

pub(crate) type Variables = Vec<(String, String)>;

/// The local services with one pod.
pub(crate) struct OnePod {
    pub(crate) services: LocalServices,
    pub(crate) workload: Workload,
}

impl OnePod {
    /// Starts the services of a fixture file and a pod of the service account `app`.
    pub(crate) async fn start(fixture: &str, config: LocalConfig) -> Self {
        let services = LocalServices::start(Fixture::from_yaml(fixture).unwrap(), config).await.unwrap();
        let workload = workload("app");
        let pod = Self { services, workload };
        pod.put_token("token", &pod.token());
        pod
    }

    pub(crate) fn token(&self) -> String {
        self.services.token(&self.workload, clock::now(), TOKEN_LIFE).unwrap()
    }

    /// Writes a token file. Returns the variables that refer to it.
    pub(crate) fn put_token(&self, name: &str, token: &str) -> Variables {
        let file = self.services.directory().join(name);
        write_private(&file, token).unwrap();
        self.variables_of(&self.services.credentials_url(), &file.display().to_string())
    }

    /// Returns the pod's variables, with a new token.
    pub(crate) fn variables(&self) -> Variables {
        self.put_token("token", &self.token())
    }

    /// Returns the pod's variables with another URL of the agent.
    pub(crate) fn variables_at(&self, credentials_url: &str) -> Variables {
        let mut variables = self.variables();
        variables[0].1 = credentials_url.to_owned();
        variables
    }

    /// The variables that the webhook injects, and the URL of the local STS.
    fn variables_of(&self, credentials_url: &str, token_file: &str) -> Variables {
        [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", credentials_url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token_file),
            ("AWS_REGION", self.services.region()),
            ("AWS_DEFAULT_REGION", self.services.region()), // the only region variable of boto3 and the AWS CLI
            ("AWS_ENDPOINT_URL_STS", &self.services.sts_url()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Gets a JSON page from the inspection URL.
    pub(crate) async fn inspection(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.services.inspection_url());
        let body = Outbound::default().getter().unwrap().get(&url, None, 1024 * 1024).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}

/// Returns a new pod of a service account in the namespace `default`.
pub(crate) fn workload(service_account: &str) -> Workload {
    let parsed = (service_account.parse().unwrap(), "app-1".parse().unwrap());
    Workload::new("default".parse().unwrap(), parsed.0, parsed.1).unwrap()
}

/// Runs a blocking function on a thread for blocking work.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}
