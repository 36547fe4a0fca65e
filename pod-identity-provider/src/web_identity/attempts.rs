//! The refusals during one call. The SDK does not report them if the call ends with a timeout.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_sts::error::ProvideErrorMetadata as _;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// An interceptor that records the attempts of one call.
#[derive(Clone, Default)]
pub(super) struct Attempts(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    sent: bool,
    refusal: Option<StsRefusal>,
}

/// Code and message of STS. They may contain the token.
#[derive(Clone)]
pub(super) struct StsRefusal {
    pub(super) code: String,
    pub(super) message: String,
}

impl Attempts {
    /// Returns whether the SDK built a request to send.
    pub(super) fn any_sent(&self) -> bool {
        self.record().sent
    }

    /// Returns STS's last refusal that had a code.
    pub(super) fn refusal(&self) -> Option<StsRefusal> {
        self.record().refusal.clone()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempts")
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.record().sent = true;
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let error =
            context.output_or_error().and_then(Result::err).and_then(OrchestratorError::as_operation_error);
        let error = error.and_then(|error| error.downcast_ref::<AssumeRoleWithWebIdentityError>());
        if let Some(error) = error {
            let message = error.message().unwrap_or_default().to_owned();
            self.record().refusal = error.code().map(|code| StsRefusal { code: code.to_owned(), message });
        }
        Ok(())
    }
}
