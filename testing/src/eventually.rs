//! Waiting for what has to happen soon.

use std::time::Duration;

/// Asks again until there is an answer.
///
/// # Panics
/// After ten seconds without one, with `what` was waited for.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(10), asked).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within 10 s: {what}"),
    }
}
