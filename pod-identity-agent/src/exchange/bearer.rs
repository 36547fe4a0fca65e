//! Authentication with the agent's own service account token.

use std::path::PathBuf;

use aws_sdk_eksauth::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_eksauth::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_eksauth::error::BoxError;
use pod_identity_core::token::BearerToken;
use pod_identity_runtime::files::{MAX_TOKEN, read_in_background};

/// The file of the agent's own token. It is read for each call, because kubelet replaces it.
#[derive(Debug)]
pub(super) struct AgentTokenFile {
    path: PathBuf,
}

impl AgentTokenFile {
    pub(super) async fn new(path: PathBuf) -> Self {
        let file = Self { path };
        if let Err(error) = file.read().await {
            tracing::warn!(%error, "agent token not readable; no credentials can be fetched without it");
        }
        file
    }

    /// Reads the token on a thread for blocking work, so that a blocked volume does not delay cached credentials.
    pub(super) async fn read(&self) -> Result<AgentToken, AgentTokenError> {
        let failed = |reason: String| AgentTokenError { file: self.path.clone(), reason };
        let text =
            read_in_background(&self.path, MAX_TOKEN).await.map_err(|error| failed(error.to_string()))?;
        BearerToken::parse(text.trim_end()).map(AgentToken).map_err(|error| failed(error.to_string()))
    }
}

/// An interceptor that sets the header `Authorization` to the agent's own token.
#[derive(Debug)]
pub(super) struct AgentToken(BearerToken);

/// The agent's own token cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the agent's token {}: {reason}", .file.display())]
pub(super) struct AgentTokenError {
    file: PathBuf,
    reason: String,
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
        let header = format!("Bearer {}", self.0.expose());
        context.request_mut().headers_mut().insert("authorization", header);
        Ok(())
    }
}
