//! No output contains a secret, at any log level.

use serde_json::Value;
use testing::sdk::Python;

use crate::command::{PROGRAM, local, ran};
use crate::harness::blocking;

/// Writes the pod's credentials and token to a file, sends the agent two invalid tokens, and calls STS.
const FETCH: &str = r#"
import json, os, subprocess, sys, urllib.error, urllib.request
url = os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
token = open(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).read()
def get_credentials(token):
    request = urllib.request.Request(url, headers={"Authorization": token})
    return json.load(urllib.request.urlopen(request))
credentials = get_credentials(token)
for refused in [token[:-8] + "AAAAAAAA", "Bearer " + token + "x"]:
    try:
        get_credentials(refused)
        sys.exit("the token was not refused")
    except urllib.error.HTTPError as error:
        print(error.read().decode())
with open(sys.argv[1], "w") as file:
    json.dump({**credentials, "PodToken": token}, file)
subprocess.run([sys.argv[2], "call-as-pod"], check=True)
"#;

#[tokio::test]
async fn run_at_trace_level_prints_no_secret() {
    if blocking(Python::ready).await.is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials.json");
    let file = file.to_str().unwrap();
    for more in [&[][..], &["--self-managed"], &["--output", "json"]] {
        let args = [&["run", "-v", "trace"], more, &["--", "python3", "-c", FETCH, file, PROGRAM]].concat();
        let run = ran(local(&args)).await;
        assert_eq!(run.code, Some(0), "{run:#?}");
        let used: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        std::fs::remove_file(file).unwrap();
        let text = |name: &str| used[name].as_str().unwrap();
        let output = format!("{}{}", run.stdout, run.stderr);
        // Expected text shows that this is the right output.
        assert!(output.contains(text("AccessKeyId")), "{output}");
        assert!(output.contains(" DEBUG ") && output.contains("pod_identity_auth"), "{output}");
        assert!(run.stdout.contains("assumed-role/app/") && run.stdout.contains("[token_"), "{output}");
        let signature = text("PodToken").rsplit('.').next().unwrap();
        let payload = text("PodToken").split('.').nth(1).unwrap();
        for secret in [text("SecretAccessKey"), text("Token"), text("PodToken"), signature, payload] {
            assert!(!output.contains(secret), "a secret is in: {output}");
            // Logs may shorten a long secret.
            assert!(!output.contains(&secret[..20]), "a secret's beginning is in: {output}");
        }
    }
}
