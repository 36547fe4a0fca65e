//! The agent's own service account token on an unsigned call.

use std::path::PathBuf;

use aws_sdk_eksauth::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_eksauth::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_eksauth::error::BoxError;
use pod_identity_core::token::BearerToken;

/// Puts the token of a file into `Authorization`, read anew for each attempt: kubelet replaces it.
#[derive(Debug)]
pub(super) struct AgentToken {
    file: PathBuf,
}

impl AgentToken {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    fn read(&self) -> Result<BearerToken, BoxError> {
        let text = std::fs::read_to_string(&self.file)
            .map_err(|error| format!("the agent's token {}: {error}", self.file.display()))?;
        let token = BearerToken::parse(text.trim_end())
            .map_err(|error| format!("the agent's token {}: {error}", self.file.display()))?;
        Ok(token)
    }
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
