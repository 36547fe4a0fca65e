//! Waiting for a condition.

use std::time::Duration;

/// Polls `condition` until it returns a value.
///
/// # Panics
/// After one minute. The message contains `what`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let polling = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), polling).await {
        Ok(value) => value,
        Err(_) => panic!("not within a minute: {what}"),
    }
}
