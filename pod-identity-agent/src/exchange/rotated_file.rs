//! AWS keys in a shared credentials file that another program replaces, as on EKS Hybrid Nodes.
//!
//! The SDK's provider reads the file once. This one reads it at each call, and sets an expiry, so that the SDK calls it
//! again.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use pod_identity_runtime::clock;

/// Maximum time for which keys without an expiry are used, as in AWS's agent.
const REREAD: Duration = Duration::from_secs(60);

/// Returns the SDK's default chain, with a profile that is read again.
pub(super) async fn chain() -> CredentialsProviderChain {
    CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("RotatedFile", RotatedFile)
        .or_default_provider()
        .await
}

#[derive(Debug)]
struct RotatedFile;

impl RotatedFile {
    async fn read(&self) -> provider::Result {
        let mut credentials = ProfileFileCredentialsProvider::builder().build().provide_credentials().await?;
        if credentials.expiry().is_none() {
            *credentials.expiry_mut() = Some(clock::now() + REREAD);
        }
        Ok(credentials)
    }
}

impl ProvideCredentials for RotatedFile {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";
    const IN_CHILD: &str = "TEST_REPLACES_THE_CREDENTIALS_FILE";

    fn write(file: &str, key: &str) {
        let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n");
        std::fs::write(file, text).unwrap();
    }

    /// The SDK takes the file's name from the environment, so the test is a separate process.
    #[test]
    fn reads_a_replaced_file_again_within_a_minute() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "exchange::rotated_file::tests::in_a_process_with_a_file"])
            .env_clear()
            .env(FILE, file.path())
            .env(IN_CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[tokio::test]
    #[ignore = "the test above runs it, in a process with a credentials file"]
    async fn in_a_process_with_a_file() {
        if std::env::var_os(IN_CHILD).is_none() {
            return;
        }
        let file = std::env::var(FILE).unwrap();
        let chain = chain().await;
        for key in ["AKIAFIRST", "AKIASECOND"] {
            write(&file, key);
            let credentials = chain.provide_credentials().await.unwrap();
            assert_eq!(credentials.access_key_id(), key);
            assert!(credentials.expiry().unwrap() <= clock::now() + REREAD);
        }
    }
}
