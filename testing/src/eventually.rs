//! Waiting for what has to happen soon.

use std::time::Duration;

/// Asks again until there is an answer.
///
/// # Panics
/// After a minute without one, with `what` was waited for.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), asked).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within a minute: {what}"),
    }
}
