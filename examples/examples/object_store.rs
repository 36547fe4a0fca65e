//! Lists a bucket with the library `object_store`, which uses no AWS SDK: `object_store BUCKET`.
//!
//! A program without an SDK calls the provider itself. `credentials()` is an atomic load and a copy, and a background task
//! renews the credentials.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::{CredentialProvider, ObjectStore as _};
use pod_identity_provider::PodIdentityCredentialsProvider;

/// Adapts the provider to `object_store`.
#[derive(Debug)]
struct PodIdentity(PodIdentityCredentialsProvider);

type CredentialResult = object_store::Result<Arc<AwsCredential>>;

impl CredentialProvider for PodIdentity {
    type Credential = AwsCredential;

    // The trait uses `async_trait`, which expands `async fn get_credential(&self) -> CredentialResult` to this signature.
    fn get_credential<'a, 'f>(&'a self) -> Pin<Box<dyn Future<Output = CredentialResult> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async {
            let failed = |source| object_store::Error::Generic { store: "S3", source: Box::new(source) };
            let credentials = self.0.credentials().await.map_err(failed)?;
            Ok(Arc::new(AwsCredential {
                key_id: credentials.access_key_id().to_owned(),
                secret_key: credentials.secret_access_key().to_owned(),
                token: credentials.session_token().map(str::to_owned),
            }))
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bucket = std::env::args().nth(1).ok_or("usage: object_store BUCKET")?;
    // `from_env` reads region and endpoint. Credentials in the environment are not used.
    let store = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_credentials(Arc::new(PodIdentity(pod_identity_provider::default())))
        .build()?;
    let mut objects = store.list(None);
    while let Some(object) = objects.try_next().await? {
        println!("{:>12} {}", object.size, object.location);
    }
    Ok(())
}
