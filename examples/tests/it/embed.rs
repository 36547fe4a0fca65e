//! The vendor's service of `embed`, over sockets: outage, role change, hung vault, key rotation, no descriptors.

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

/// A running service, with the issuer and the vault that it reads.
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
        // Written beside and renamed, so that no half of it is read.
        let draft = self.vault().join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.vault().join(file)).unwrap();
    }

    fn token(&self, account: &str, pod: &str) -> String {
        self.token_of(&workload(account, pod))
    }

    fn token_of(&self, pod: &Workload) -> String {
        self.issuer.mint(&pod.token_request(clock::now(), HOUR)).unwrap()
    }

    async fn ask(&self, token: &str) -> Answer {
        ask(self.address, "GET /", &[("Authorization", token)], b"").await.unwrap()
    }
}

/// Makes a new pod: its UID is its own.
fn workload(account: &str, pod: &str) -> Workload {
    Workload::new("default".parse().unwrap(), account.parse().unwrap(), pod.parse().unwrap()).unwrap()
}

/// Returns the secret of a response, or its status and error code.
fn outcome(answer: &Answer) -> Result<String, (u16, String)> {
    let body = answer.json();
    match answer.status {
        200 => Ok(body["SecretAccessKey"].as_str().unwrap().to_owned()),
        status => Err((status, body["code"].as_str().unwrap().to_owned())),
    }
}

const FIRST: &str = "secret of the first role";
const SECOND: &str = "secret of the second role";

#[tokio::test]
async fn embed_serves_through_an_outage_and_follows_role_changes() {
    let vendor = Vendor::start(":");
    let pod = workload("app", "app-1");
    let (token, newcomer) = (vendor.token_of(&pod), vendor.token("app", "app-2"));
    let first = vendor.ask(&token).await;
    assert_eq!(outcome(&first), Ok(FIRST.to_owned()));
    assert_eq!(first.header("content-type"), Some("application/json"));

    // Outage of the vault: the cached pod is served, with a new token too. A new pod is told to come back.
    std::fs::remove_file(vendor.vault().join("first")).unwrap();
    assert_eq!(outcome(&vendor.ask(&token).await), Ok(FIRST.to_owned()));
    assert_eq!(outcome(&vendor.ask(&vendor.token_of(&pod)).await), Ok(FIRST.to_owned()));
    let refused = vendor.ask(&newcomer).await;
    assert_eq!(outcome(&refused), Err((503, "upstream_unavailable".to_owned())));
    assert!(refused.header("retry-after").is_some());
    vendor.write("first", FIRST);
    eventually("the new pod is served", || async {
        outcome(&vendor.ask(&newcomer).await).ok().filter(|secret| secret == FIRST)
    })
    .await;

    // A changed role counts at the next request, and so does a removed one.
    vendor.write("default.app", "arn:aws:iam::111122223333:role/second");
    assert_eq!(outcome(&vendor.ask(&token).await), Ok(SECOND.to_owned()));
    vendor.write("default.app", "");
    let gone = Err((404, "association_not_found".to_owned()));
    assert_eq!(outcome(&vendor.ask(&token).await), gone);
    vendor.write("default.app", "arn:aws:iam::111122223333:role/first");
    assert_eq!(outcome(&vendor.ask(&token).await), Ok(FIRST.to_owned()));
}

#[tokio::test]
async fn embed_serves_other_pods_while_the_vault_hangs() {
    let vendor = Vendor::start(":");
    // Nobody ever writes into this FIFO, so reading it hangs.
    let made = Command::new("mkfifo").arg(vendor.vault().join("hung")).status().unwrap();
    assert!(made.success());
    vendor.write("default.app", "arn:aws:iam::111122223333:role/hung");
    let (token, other) = (vendor.token("app", "app-1"), vendor.token("other", "other-1"));
    let started = clock::monotonic();
    let (hung, served) = tokio::join!(vendor.ask(&token), async {
        let served = vendor.ask(&other).await;
        (outcome(&served), started.elapsed())
    });
    assert_eq!(outcome(&hung), Err((503, "upstream_unavailable".to_owned())));
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert_eq!(served.0, Ok(SECOND.to_owned()));
    assert!(served.1 < Duration::from_secs(3), "{:?}", served.1);
}

#[tokio::test]
async fn embed_takes_new_keys_and_drops_withdrawn_ones() {
    let vendor = Vendor::start(":");
    let old = vendor.token("app", "app-1");
    assert_eq!(outcome(&vendor.ask(&old).await), Ok(FIRST.to_owned()));
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
        let answer = outcome(&vendor.ask(&new).await);
        if answer.is_ok() {
            break;
        }
        assert_eq!(answer, unknown);
        assert!(clock::monotonic() < deadline, "the new key is not in use");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(outcome(&vendor.ask(&old).await), unknown, "its key was withdrawn");
}

#[tokio::test]
async fn embed_recovers_when_no_descriptor_is_free() {
    let vendor = Vendor::start("ulimit -n 48");
    let token = vendor.token("app", "app-1");
    assert_eq!(outcome(&vendor.ask(&token).await), Ok(FIRST.to_owned()));
    let idle: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(vendor.address).unwrap()).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(idle);
    eventually("the service accepts again", || async {
        let answer = ask(vendor.address, "GET /", &[("Authorization", &token)], b"").await.ok()?;
        outcome(&answer).ok()
    })
    .await;
}
