//! The same endpoints with this crate's provider and with the SDK's provider. The test checks the table in README.md.
//!
//! The SDK's provider reads the environment of the process, so each provider runs in a process of its own.

mod client; // identity cache of a client
mod one; // one request in a process of its own
mod outage; // requests during an outage of the agent

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use pod_identity_core::error::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::replay::Endpoint;

const BEGIN: &str = "<!-- side by side: begin -->\n";
const END: &str = "<!-- side by side: end -->\n";

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzaWRlIn0.c2lnbmF0dXJl";
const MESSAGE: &str = "no association gives default/app a role";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Implementation {
    ThisCrate,
    Sdk,
}

/// The task of a child process, passed in the variable [`JOB`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) implementation: Implementation,
    /// The time limit of an attempt in milliseconds. `None` for the default.
    pub(crate) attempt_ms: Option<u64>,
    /// The address of all names, for this crate only. `None` for the system's resolver.
    pub(crate) dns: Option<IpAddr>,
    /// Whether the request uses a client's identity cache.
    pub(crate) through_cache: bool,
}

/// The result of a child process. It is printed on one line, after [`RESULT_PREFIX`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JobResult {
    /// Whether there were credentials. `None` after a timeout.
    pub(crate) credentials: Option<bool>,
    /// The text of the error and of its sources.
    pub(crate) error: String,
    millis: u64,
}

pub(crate) const JOB: &str = "SIDE_BY_SIDE";
const RESULT_PREFIX: &str = "RESULT ";

struct Row {
    what: &'static str,
    traffic: Value,
    /// The last character of the token file.
    line_end: &'static str,
    attempt_ms: Option<u64>,
    through_cache: bool,
}

#[test]
fn table_in_the_readme_is_current() {
    let table = table();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert!(written == table, "README.md has another table (UPDATE_README=1 writes it): {table}");
}

fn table() -> String {
    let rows = rows();
    let implementations = [Implementation::ThisCrate, Implementation::Sdk];
    let cells: Vec<[Mutex<String>; 2]> = rows.iter().map(|_| Default::default()).collect();
    let queue = Mutex::new(
        (0..rows.len()).flat_map(|row| implementations.map(|implementation| (row, implementation))),
    );
    std::thread::scope(|scope| {
        // Six threads for two cores are enough, because the slowest requests only wait.
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some((row, implementation)) = queue.lock().unwrap().next() else { return };
                    let cell = rows[row].run(implementation);
                    *cells[row][usize::from(implementation == Implementation::Sdk)].lock().unwrap() = cell;
                }
            });
        }
    });
    let outage = implementations.map(outage::run);
    let mut table = format!(
        "A test calls the same endpoints with this crate and with aws-config {}, and writes this table. It calls each provider\n\
         itself, or where a row says so a client's identity cache: the provider's here and the SDK's own there.\n\n\
         | what happens | this crate | `aws_config::ecs::EcsCredentialsProvider` |\n|---|---|---|\n",
        version_of_aws_config()
    );
    for (row, [ours, sdk]) in rows.iter().zip(cells) {
        let _ = writeln!(
            table,
            "| {} | {} | {} |",
            row.what,
            ours.into_inner().unwrap(),
            sdk.into_inner().unwrap()
        );
    }
    let _ = writeln!(table, "| {} | {} | {} |", outage::WHAT, outage[0], outage[1]);
    table
}

fn rows() -> Vec<Row> {
    let credentials = |expiration: &str| json!({"AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "secret", "Token": "token", "Expiration": expiration});
    let good = || json!({"status": 200, "body": credentials("2036-11-22T06:00:00Z")});
    let row = |what, answers: Vec<Value>| {
        let last = answers.len() - 1;
        let exchange = |(number, answer): (usize, Value)| {
            let request =
                json!({"to": "http://127.0.0.1:${port}", "path": "/v1/credentials", "authorization": TOKEN});
            match answer.as_str() {
                Some(failure) => json!({"request": request, "failure": failure, "repeated": number == last}),
                None => json!({"request": request, "response": answer, "repeated": number == last}),
            }
        };
        let traffic = answers.into_iter().enumerate().map(exchange).collect();
        Row { what, traffic, line_end: "", attempt_ms: None, through_cache: false }
    };
    let refusal = json!({"code": ErrorCode::AssociationNotFound.as_str(), "message": MESSAGE});
    let stalled = |what| Row { attempt_ms: Some(200), ..row(what, vec![json!("stall")]) };
    vec![
        row("credentials without an account", vec![good()]),
        Row {
            attempt_ms: Some(200),
            ..row(
                "no response, with a limit of 200 ms for an attempt (and of 2 s for all attempts, which the SDK lacks)",
                vec![json!("hang")],
            )
        },
        stalled("the same, but the response has begun"),
        Row { through_cache: true, ..stalled("the same, through a client's identity cache") },
        row("429, then credentials", vec![json!({"status": 429}), good()]),
        row("503, then credentials", vec![json!({"status": 503}), good()]),
        row("404 with the agent's code and message", vec![json!({"status": 404, "body": refusal})]),
        Row { line_end: "\n", ..row("a token file that ends with a line feed", vec![good()]) },
        row(
            "`Expiration` with `+00:00`",
            vec![json!({"status": 200, "body": credentials("2036-11-22T06:00:00+00:00")})],
        ),
        row("a response that is not JSON", vec![json!({"status": 200, "body": "<html></html>"})]),
    ]
}

impl Row {
    /// Runs one provider and returns the cell of the table. The text does not depend on the speed of the machine.
    fn run(&self, implementation: Implementation) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, format!("{TOKEN}{}", self.line_end)).unwrap();
        let exchanges = serde_json::from_value(self.traffic.clone()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (outcome, requests, unexpected) = runtime.block_on(async {
            let endpoint = Endpoint::start(exchanges, None).await;
            let uri = format!("http://{}/v1/credentials", endpoint.address);
            let job = Job {
                implementation,
                attempt_ms: self.attempt_ms,
                through_cache: self.through_cache,
                dns: None,
            };
            let env = [
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.display().to_string()),
                (JOB, serde_json::to_string(&job).unwrap()),
                // Neither provider uses this proxy, where nothing listens.
                ("HTTP_PROXY", "http://127.0.0.1:9".to_owned()),
                ("http_proxy", "http://127.0.0.1:9".to_owned()),
            ];
            let outcome = run_in_process(env).await;
            (outcome, endpoint.requests(), endpoint.unexpected())
        });
        assert_eq!(unexpected, [""; 0], "{}, {implementation:?}", self.what);
        outcome.text(requests)
    }
}

impl JobResult {
    fn text(&self, requests: usize) -> String {
        let result = match self.credentials {
            Some(true) => "**credentials**",
            Some(false) => self.error(),
            None => "no result",
        };
        let requests = match requests {
            0 => "no request".to_owned(),
            1 => "1 request".to_owned(),
            2 => "2 requests".to_owned(),
            _ => "3 requests or more".to_owned(),
        };
        let time = match (self.credentials, self.millis) {
            (None, _) => " and 25 s",
            (_, ..5000) => "",
            (_, 5000..12_000) => ", in 5 to 12 s",
            _ => ", in more than 12 s",
        };
        format!("{result}: {requests}{time}")
    }

    fn error(&self) -> &'static str {
        let refusal = ErrorCode::AssociationNotFound;
        match [refusal.as_str(), MESSAGE, refusal.fix()].map(|part| self.error.contains(part)) {
            [true, true, true] => "an error, with code, message and fix",
            [false, false, false] => "an error",
            parts => panic!("unexpected error text, parts {parts:?}: {}", self.error),
        }
    }
}

/// Returns the major and minor version of aws-config in the lock file.
fn version_of_aws_config() -> String {
    let lock = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock")).unwrap();
    let (_, package) = lock.split_once("name = \"aws-config\"\nversion = \"").unwrap();
    package.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Runs one provider in a process that has only these variables.
pub(crate) async fn run_in_process<const N: usize>(env: [(&'static str, String); N]) -> JobResult {
    let child =
        tokio::task::spawn_blocking(move || process("side_by_side::one::one_provider_fetches_once", env));
    serde_json::from_str(&child.await.unwrap()).unwrap()
}

/// Runs one test of this binary in a process that has only these variables. Returns its result line.
fn process<const N: usize>(test: &str, env: [(&str, String); N]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output =
        command.args([test, "--exact", "--ignored", "--nocapture"]).env_clear().envs(env).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let outcome = text.lines().find_map(|line| line.split_once(RESULT_PREFIX));
    let Some((_, outcome)) = outcome else {
        panic!("{test} printed no result: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    outcome.to_owned()
}

/// Returns the job of this process. Returns `None` if the ignored test was started by hand.
fn job() -> Option<Job> {
    Some(serde_json::from_str(&std::env::var(JOB).ok()?).unwrap())
}
