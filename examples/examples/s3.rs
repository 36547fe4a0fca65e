//! Lists a bucket, from within a pod: `s3 BUCKET`.
//!
//! The pod's service account has a role by EKS Pod Identity, and the program two lines for it: the provider, and the
//! identity cache that reads it at each request. Region and endpoint come from the environment, as in any AWS program.

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_smithy_types::error::display::DisplayErrorContext;
use pod_identity_provider::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), String> {
    let bucket = std::env::args().nth(1).ok_or("usage: s3 BUCKET")?;

    let config = aws_config::defaults(BehaviorVersion::latest())
        .credentials_provider(pod_identity_provider::default())
        .identity_cache(pod_identity_provider::identity_cache())
        .load()
        .await;

    // A paginator asks again while there is more.
    let mut pages = Client::new(&config).list_objects_v2().bucket(bucket).into_paginator().send();
    while let Some(page) = pages.next().await {
        // Where there are no credentials, the crate's own error, however deep, says what is missing in this cluster.
        let page = page.map_err(|error| match Error::of(&error) {
            Some(known) => known.to_string(),
            None => DisplayErrorContext(error).to_string(),
        })?;
        for object in page.contents() {
            println!("{:>12} {}", object.size().unwrap_or_default(), object.key().unwrap_or_default());
        }
    }
    Ok(())
}
