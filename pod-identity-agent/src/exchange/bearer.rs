//! The agent's own service account token on an unsigned call.

use std::path::PathBuf;

use aws_sdk_eksauth::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_eksauth::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_eksauth::error::BoxError;
use pod_identity_core::token::BearerToken;
use zeroize::Zeroizing;

/// Puts the token of a file into `Authorization`, read anew for each attempt: kubelet replaces it.
#[derive(Debug)]
pub(super) struct AgentToken {
    file: PathBuf,
}

impl AgentToken {
    pub(super) fn new(file: PathBuf) -> Self {
        let token = Self { file };
        if let Err(error) = token.read() {
            tracing::warn!("no credentials can be fetched as long as the agent lacks {error}");
        }
        token
    }

    fn read(&self) -> Result<BearerToken, NoAgentToken> {
        let wrong = |reason: String| NoAgentToken { file: self.file.clone(), reason };
        let text = std::fs::read_to_string(&self.file).map_err(|error| wrong(error.to_string()))?;
        let text = Zeroizing::new(text);
        BearerToken::parse(text.trim_end()).map_err(|error| wrong(error.to_string()))
    }
}

/// The agent's own token cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("its token {}: {reason}", .file.display())]
struct NoAgentToken {
    file: PathBuf,
    reason: String,
}

/// Whether a call failed because the agent's own token could not be had, and why.
pub(super) fn missing_token(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<NoAgentToken>() {
            return Some(error.to_string());
        }
        cause = error.source();
    }
    None
}

impl Intercept for AgentToken {
    fn name(&self) -> &'static str {
        "AgentToken"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let header = format!("Bearer {}", self.read()?.expose());
        context.request_mut().headers_mut().insert("authorization", header);
        Ok(())
    }
}
