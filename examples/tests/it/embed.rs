//! The credential service of the example `embed`: outage, role change, hanging vault, key rotation, no free descriptors.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_local::services::Workload;
use pod_identity_runtime::clock;
use testing::eventually::eventually;
use testing::wire::{Answer, ask};

use super::HOUR;

const ISSUER: &str = "https://oidc.pod-identity.test/embed";

/// A running service with its issuer and its vault.
struct Vendor {
    process: Child,
    address: SocketAddr,
    issuer: Issuer,
    directory: tempfile::TempDir,
}

impl Drop for Vendor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Vendor {
    fn start(limits: &str) -> Self {
        let issuer = Issuer::new(ISSUER, "http://127.0.0.1:1", KeyAlgorithm::Es256).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("jwks.json"), issuer.jwks()).unwrap();
        for (file, text) in [
            ("default.app", "arn:aws:iam::111122223333:role/first"),
            ("default.other", "arn:aws:iam::111122223333:role/second"),
            ("first", "secret of the first role"),
            ("second", "secret of the second role"),
        ] {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        let mut process = Command::new("sh")
            .args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")])
            .arg(super::program("embed"))
            .args([ISSUER.as_ref(), directory.path().join("jwks.json").as_os_str()])
            .arg(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("serving credentials on http://").trim_end_matches('/');
        Self { process, address: address.parse().expect(&line), issuer, directory }
    }

    fn vault(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, file: &str, text: &str) {
        // Renamed after writing, so that the service never reads a partial file.
        let partial = self.vault().join("partial");
        std::fs::write(&partial, text).unwrap();
        std::fs::rename(partial, self.vault().join(file)).unwrap();
    }

    fn token(&self, service_account: &str, pod: &str) -> String {
        self.token_of(&workload(service_account, pod))
    }

    fn token_of(&self, pod: &Workload) -> String {
        self.issuer.mint(&pod.token_request(clock::now(), HOUR)).unwrap()
    }

    async fn request(&self, token: &str) -> Answer {
        ask(self.address, "GET /", &[("Authorization", token)], b"").await.unwrap()
    }
}

/// Returns a new pod with a UID of its own.
fn workload(service_account: &str, pod: &str) -> Workload {
    let (namespace, service_account) = ("default".parse().unwrap(), service_account.parse().unwrap());
    Workload::new(namespace, service_account, pod.parse().unwrap()).unwrap()
}

/// Returns the secret in a response, or its status and error code.
fn secret_of(response: &Answer) -> Result<String, (u16, String)> {
    let body = response.json();
    match response.status {
        200 => Ok(body["SecretAccessKey"].as_str().unwrap().to_owned()),
        status => Err((status, body["code"].as_str().unwrap().to_owned())),
    }
}

const FIRST: &str = "secret of the first role";
const SECOND: &str = "secret of the second role";

#[tokio::test]
async fn embed_serves_during_an_outage_and_applies_role_changes() {
    let vendor = Vendor::start(":");
    let pod = workload("app", "app-1");
    let (token, new_pods_token) = (vendor.token_of(&pod), vendor.token("app", "app-2"));
    let first = vendor.request(&token).await;
    assert_eq!(secret_of(&first), Ok(FIRST.to_owned()));
    assert_eq!(first.header("content-type"), Some("application/json"));

    // During an outage of the vault, a cached pod is served, also with a new token. A new pod gets 503 with `Retry-After`.
    std::fs::remove_file(vendor.vault().join("first")).unwrap();
    assert_eq!(secret_of(&vendor.request(&token).await), Ok(FIRST.to_owned()));
    assert_eq!(secret_of(&vendor.request(&vendor.token_of(&pod)).await), Ok(FIRST.to_owned()));
    let refused = vendor.request(&new_pods_token).await;
    assert_eq!(secret_of(&refused), Err((503, "upstream_unavailable".to_owned())));
    assert!(refused.header("retry-after").is_some());
    vendor.write("first", FIRST);
    eventually("the new pod is served", || async {
        secret_of(&vendor.request(&new_pods_token).await).ok().filter(|secret| secret == FIRST)
    })
    .await;

    // A changed or removed role applies to the next request.
    vendor.write("default.app", "arn:aws:iam::111122223333:role/second");
    assert_eq!(secret_of(&vendor.request(&token).await), Ok(SECOND.to_owned()));
    vendor.write("default.app", "");
    let not_found = Err((404, "association_not_found".to_owned()));
    assert_eq!(secret_of(&vendor.request(&token).await), not_found);
    vendor.write("default.app", "arn:aws:iam::111122223333:role/first");
    assert_eq!(secret_of(&vendor.request(&token).await), Ok(FIRST.to_owned()));
}

#[tokio::test]
async fn embed_serves_other_pods_while_the_vault_hangs() {
    let vendor = Vendor::start(":");
    // Reading this FIFO hangs, because nothing writes to it.
    let made = Command::new("mkfifo").arg(vendor.vault().join("hung")).status().unwrap();
    assert!(made.success());
    vendor.write("default.app", "arn:aws:iam::111122223333:role/hung");
    let (token, other) = (vendor.token("app", "app-1"), vendor.token("other", "other-1"));
    let started = clock::monotonic();
    let (hung, served) = tokio::join!(vendor.request(&token), async {
        let served = vendor.request(&other).await;
        (secret_of(&served), started.elapsed())
    });
    assert_eq!(secret_of(&hung), Err((503, "upstream_unavailable".to_owned())));
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert_eq!(served.0, Ok(SECOND.to_owned()));
    assert!(served.1 < Duration::from_secs(3), "{:?}", served.1);
}

#[tokio::test]
async fn embed_accepts_new_keys_and_rejects_removed_ones() {
    let vendor = Vendor::start(":");
    let old = vendor.token("app", "app-1");
    assert_eq!(secret_of(&vendor.request(&old).await), Ok(FIRST.to_owned()));
    vendor.issuer.rotate(KeyAlgorithm::Es256).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&vendor.issuer.jwks()).unwrap();
    let newest = document["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["kid"].as_str() == Some(vendor.issuer.signing_key().kid()));
    vendor.write("jwks.json", &serde_json::json!({"keys": [newest.unwrap()]}).to_string());
    let new = vendor.token("app", "app-1");
    // Keys are fetched for an unknown key id at most every 30 s.
    let deadline = clock::monotonic() + Duration::from_secs(45);
    let unknown = Err((503, "token_key_unknown".to_owned()));
    loop {
        let secret = secret_of(&vendor.request(&new).await);
        if secret.is_ok() {
            break;
        }
        assert_eq!(secret, unknown);
        assert!(clock::monotonic() < deadline, "the new key is not in use");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(secret_of(&vendor.request(&old).await), unknown, "the key was removed");
}

#[tokio::test]
async fn embed_recovers_after_running_out_of_descriptors() {
    let vendor = Vendor::start("ulimit -n 48");
    let token = vendor.token("app", "app-1");
    assert_eq!(secret_of(&vendor.request(&token).await), Ok(FIRST.to_owned()));
    let idle: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(vendor.address).unwrap()).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(idle);
    eventually("the service accepts connections again", || async {
        let response = ask(vendor.address, "GET /", &[("Authorization", &token)], b"").await.ok()?;
        secret_of(&response).ok()
    })
    .await;
}
