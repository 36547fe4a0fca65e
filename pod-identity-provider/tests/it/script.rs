//! A scripted endpoint of AWS.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

/// Returns these responses one after the other. A further request panics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Whether further requests hang.
    then_silent: bool,
}

impl Script {
    pub(crate) fn new(answers: impl IntoIterator<Item = (u16, String)>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            asked: Arc::default(),
            then_silent: false,
        }
    }

    /// Lets further requests hang.
    #[cfg(feature = "irsa")]
    pub(crate) fn then_silent(self) -> Self {
        Self { then_silent: true, ..self }
    }

    /// Returns the requested URLs. Requests with a pod's token are not signed.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        assert_eq!(request.headers().get("authorization"), None);
        self.asked.lock().unwrap().push(request.uri().to_owned());
        let answer = self.answers.lock().unwrap().pop_front();
        if self.then_silent && answer.is_none() {
            return HttpConnectorFuture::new(std::future::pending());
        }
        let (status, body) = answer.expect("an unexpected request");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
    }
}

impl HttpClient for Script {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// Returns STS's response to a token, with that secret key.
#[cfg(feature = "irsa")]
pub(crate) fn session(secret: &str) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <AccessKeyId>ASIAFETCHED</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>token</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
}

/// Returns the variables of a pod with IRSA.
#[cfg(feature = "irsa")]
pub(crate) fn irsa(token: &std::path::Path) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/app".to_owned()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string()),
        ("AWS_REGION", "eu-west-1".to_owned()),
    ]
}
