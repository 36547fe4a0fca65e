//! Requests to the agent without an SDK.

use std::ffi::OsStr;

use testing::node::Node;

/// A response of the agent: the status and the body.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends a token to the agent, from the node's own network.
pub(crate) fn request(node: &Node, token: &str) -> Response {
    let mut bash = node.network_command(OsStr::new("bash"));
    let script = "exec 3<>/dev/tcp/169.254.170.23/80 && printf 'GET /v1/credentials HTTP/1.0\\r\\nHost: 169.254.170.23\\r\\nAuthorization: %s\\r\\n\\r\\n' \"$TOKEN\" >&3 && cat <&3";
    let output = bash.args(["-c", script]).env("TOKEN", token.trim()).output().unwrap();
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// Returns a shell script that sends the token of the file `$1` to the agent in a pod, and prints the response.
pub(crate) fn script(file: &str) -> String {
    format!(
        "exec bash -c 'exec 3<>/dev/tcp/169.254.170.23/80 && printf \"GET /v1/credentials HTTP/1.0\\r\\nHost: 169.254.170.23\\r\\nAuthorization: %s\\r\\n\\r\\n\" \"$(cat {file})\" >&3 && cat <&3'"
    )
}

pub(crate) fn parse(text: &str) -> Response {
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Response { status, body: text.to_owned() }
}
