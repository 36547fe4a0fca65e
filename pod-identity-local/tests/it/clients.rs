//! AWS's SDKs in a pod's app, configured by the pod's environment variables only.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_sts::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_sts::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sts::error::{BoxError, DisplayErrorContext};
use pod_identity_runtime::clock;
use serde_json::{Value, json};
use testing::sdk::{Node, Output, Python};

use crate::harness::{Variables, blocking};

/// An SDK or the AWS CLI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sdk {
    Boto3,
    AwsCli,
    JavaScript,
    /// With the provider `fromHttp()` in place of the default chain.
    JavaScriptFromHttp,
    Rust,
}

/// The identity of a call.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) arn: String,
    /// The key that signed the call.
    pub(crate) access_key_id: String,
}

impl Sdk {
    /// Calls `GetCallerIdentity`. Returns `None` if the SDK is not installed.
    pub(crate) async fn call(self, variables: Variables) -> Option<Called> {
        let answer = match self {
            Self::Boto3 => python(variables, "boto3_get_caller_identity.py", &[]).await?.json(),
            Self::JavaScript => node(variables, "sts_get_caller_identity.mjs", &[]).await?.json(),
            Self::AwsCli => {
                let output = aws_cli(variables, &["sts", "get-caller-identity", "--debug"]).await?;
                let signed =
                    output.stderr.split("Credential=").nth(1).and_then(|rest| rest.split('/').next());
                json!({ "arn": output.json()["Arn"], "accessKeyId": signed })
            }
            Self::JavaScriptFromHttp => unreachable!("used for errors only"),
            Self::Rust => {
                let (client, keys) = rust_client(&variables).await;
                let arn = client.get_caller_identity().send().await.unwrap().arn;
                json!({ "arn": arn, "accessKeyId": keys.seen().last() })
            }
        };
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Some(Called { arn: text("arn"), access_key_id: text("accessKeyId") })
    }

    /// Returns the error message with causes when `GetCallerIdentity` fails.
    pub(crate) async fn failure(self, variables: Variables) -> Option<String> {
        let (code, text) = match self {
            Self::Boto3 => {
                let output = python(variables, "boto3_error.py", &[]).await?;
                (output.code, output.stdout)
            }
            Self::JavaScript => {
                let output = node(variables, "sts_error.mjs", &[]).await?;
                (output.code, output.stdout)
            }
            Self::JavaScriptFromHttp => {
                let output = node(variables, "sts_error.mjs", &["from-http"]).await?;
                (output.code, output.stdout)
            }
            Self::AwsCli => {
                let output = aws_cli(variables, &["sts", "get-caller-identity"]).await?;
                (output.code, output.stderr)
            }
            Self::Rust => {
                let (client, _) = rust_client(&variables).await;
                let error = client.get_caller_identity().send().await.unwrap_err();
                (Some(1), DisplayErrorContext(error).to_string())
            }
        };
        assert_ne!(code, Some(0), "{self:?} did not fail: {text}");
        Some(text)
    }

    /// Calls once a second with one client. Returns `accessKeyIds` in the order of their first use, `calls` and
    /// `errors`.
    pub(crate) async fn call_for(self, variables: Variables, time: Duration) -> Option<Value> {
        let seconds = time.as_secs().to_string();
        match self {
            Self::Boto3 => Some(python(variables, "boto3_refresh.py", &[&seconds]).await?.json()),
            Self::JavaScript => Some(node(variables, "sts_refresh.mjs", &[&seconds]).await?.json()),
            Self::Rust => Some(rust_for(&variables, time).await),
            Self::AwsCli | Self::JavaScriptFromHttp => unreachable!("has no refresh of its own"),
        }
    }
}

async fn rust_for(variables: &Variables, time: Duration) -> Value {
    let (client, keys) = rust_client(variables).await;
    let end = clock::monotonic() + time;
    let (mut calls, mut errors) = (0, Vec::new());
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    while clock::monotonic() < end {
        every_second.tick().await;
        calls += 1;
        if let Err(error) = client.get_caller_identity().send().await {
            errors.push(DisplayErrorContext(error).to_string());
        }
    }
    let mut ids = keys.seen();
    ids.dedup();
    json!({ "accessKeyIds": ids, "calls": calls, "errors": errors })
}

pub(crate) async fn python(variables: Variables, script: &str, args: &[&str]) -> Option<Output> {
    let (script, args) = (script.to_owned(), owned(args));
    let python = blocking(Python::ready).await?;
    Some(blocking(move || python.script(&script, &borrowed(&args), &pairs(&variables))).await)
}

pub(crate) async fn aws_cli(variables: Variables, args: &[&str]) -> Option<Output> {
    let args = owned(args);
    let python = blocking(Python::ready).await?;
    Some(blocking(move || python.aws_cli(&borrowed(&args), &pairs(&variables))).await)
}

async fn node(variables: Variables, script: &str, args: &[&str]) -> Option<Output> {
    let (script, args) = (script.to_owned(), owned(args));
    let node = blocking(Node::ready).await?;
    Some(blocking(move || node.script(&script, &borrowed(&args), &pairs(&variables))).await)
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn borrowed(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn pairs(variables: &Variables) -> Vec<(&str, &str)> {
    variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Returns a client with the default chain over these variables, and its record of signing keys.
async fn rust_client(variables: &Variables) -> (aws_sdk_sts::Client, SigningKeys) {
    let mut variables = variables.clone();
    variables.push(("HOME".to_owned(), "/nonexistent".to_owned()));
    let env = aws_types::os_shim_internal::Env::from_slice(&pairs(&variables));
    let config = aws_config::defaults(BehaviorVersion::latest()).env(env).load().await;
    let keys = SigningKeys::default();
    let config = aws_sdk_sts::config::Builder::from(&config).interceptor(keys.clone()).build();
    (aws_sdk_sts::Client::from_conf(config), keys)
}

/// Records the access key id of each sent request.
#[derive(Debug, Clone, Default)]
struct SigningKeys(Arc<Mutex<Vec<String>>>);

impl SigningKeys {
    fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Intercept for SigningKeys {
    fn name(&self) -> &'static str {
        "SigningKeys"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let header = context.request().headers().get("authorization").ok_or("an unsigned call")?;
        let key = header.split("Credential=").nth(1).and_then(|rest| rest.split('/').next());
        self.0.lock().unwrap().push(key.ok_or("no credential")?.to_owned());
        Ok(())
    }
}
