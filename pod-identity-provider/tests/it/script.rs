//! A scripted HTTP client, in place of STS.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

/// An HTTP client that returns scripted responses in order. After the last response a request panics or hangs.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScriptedClient {
    responses: Arc<Mutex<VecDeque<(u16, String)>>>,
    requested_urls: Arc<Mutex<Vec<String>>>,
    /// Whether requests after the last response hang.
    then_hang: bool,
}

impl ScriptedClient {
    pub(crate) fn new(responses: impl IntoIterator<Item = (u16, String)>) -> Self {
        Self {
            responses: Arc::new(Mutex::new(responses.into_iter().collect())),
            requested_urls: Arc::default(),
            then_hang: false,
        }
    }

    /// Makes requests after the last response hang.
    #[cfg(feature = "irsa")]
    pub(crate) fn then_hang(self) -> Self {
        Self { then_hang: true, ..self }
    }

    /// Returns the URLs of all requests.
    pub(crate) fn requested_urls(&self) -> Vec<String> {
        self.requested_urls.lock().unwrap().clone()
    }
}

impl HttpConnector for ScriptedClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        assert_eq!(request.headers().get("authorization"), None); // calls with a web identity token are not signed
        self.requested_urls.lock().unwrap().push(request.uri().to_owned());
        let response = self.responses.lock().unwrap().pop_front();
        if self.then_hang && response.is_none() {
            return HttpConnectorFuture::new(std::future::pending());
        }
        let (status, body) = response.expect("an unexpected request");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
    }
}

impl HttpClient for ScriptedClient {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// Returns a response of STS with this secret key.
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
