//! Resolves credentials with the default chain of AWS's SDK for Rust, or asks STS for the identity of credentials.
//!
//! - `aws-credentials` prints `{"accessKeyId": ..., "secretAccessKey": ..., "sessionToken": ...}`.
//! - `aws-credentials identity` prints the ARN of GetCallerIdentity.

use std::error::Error;

use aws_config::BehaviorVersion;
use aws_credential_types::provider::ProvideCredentials;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let output = runtime.block_on(async {
        let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
        if std::env::args().nth(1).as_deref() == Some("identity") {
            let identity = aws_sdk_sts::Client::new(&config).get_caller_identity().send().await?;
            return Ok(identity.arn().unwrap_or_default().to_owned());
        }
        let provider = config.credentials_provider().ok_or("the chain has no provider")?;
        let credentials = provider.provide_credentials().await?;
        let printed = json!({
            "accessKeyId": credentials.access_key_id(),
            "secretAccessKey": credentials.secret_access_key(),
            "sessionToken": credentials.session_token(),
        });
        Ok::<_, Box<dyn Error>>(printed.to_string())
    })?;
    println!("{output}");
    Ok(())
}
