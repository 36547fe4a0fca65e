//! The agent's process in a network namespace.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use testing::netns::Namespace;
use testing::program::Program;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_eks-pod-identity-agent");
pub(crate) const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)), 80);
pub(crate) const V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)), 80);
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2703);

/// The agent's process. Its EKS Auth is unreachable: these tests need no credentials.
#[derive(Debug)]
pub(crate) struct Agent<'a> {
    node: &'a Namespace,
    _program: Program,
    log: tempfile::NamedTempFile,
}

/// Returns the arguments of `server`.
pub(crate) fn server(flags: &str) -> Vec<String> {
    let fixed = "server --cluster-name demo --agent-auth token --endpoint http://127.0.0.1:1";
    fixed.split(' ').chain(flags.split_whitespace()).map(str::to_owned).collect()
}

impl<'a> Agent<'a> {
    /// Starts the agent and waits until it serves.
    pub(crate) fn start(node: &'a Namespace, flags: &str) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let (arguments, stderr) = (server(flags), log.reopen().unwrap());
        let started = node.run(move || {
            let mut command = Command::new(PROGRAM);
            Program::start(command.args(arguments).env_clear().env("AWS_REGION", "eu-west-1").stderr(stderr))
        });
        let agent = Self { node, _program: started.join().unwrap().unwrap(), log };
        agent.logs("serving credentials", 1);
        agent
    }

    /// Returns the log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Waits until the log has this number of lines with a text.
    pub(crate) fn logs(&self, text: &str, count: usize) {
        eventually(&format!("{count} lines with {text:?}"), || {
            self.log().lines().filter(|line| line.contains(text)).count() == count
        });
    }

    /// Returns the value of a series.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let page = self.node.run(|| get(ADMIN, "/metrics", "127.0.0.1").unwrap().1).join().unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("{series} is not in {page}")).trim().parse().unwrap()
    }
}

/// Polls for at most 20 s.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..400 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not within 20 s: {what}");
}

/// Requests credentials with an invalid token from a namespace. Returns status and error code.
pub(crate) fn ask(from: &Namespace, agent: SocketAddr) -> io::Result<(u16, String)> {
    from.run(move || {
        let (status, body) = get(agent, "/v1/credentials", &agent.ip().to_string())?;
        let code = body.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next());
        Ok((status, code.unwrap_or_default().to_owned()))
    })
    .join()
    .unwrap()
}

fn get(address: SocketAddr, path: &str, host: &str) -> io::Result<(u16, String)> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: a.b\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
    Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}

/// Runs the program to its end in a namespace. Returns its exit status and its log.
pub(crate) fn run(node: &Namespace, arguments: &[&str]) -> (i32, String) {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let output = node.run(move || output(Command::new(PROGRAM).args(arguments))).join().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn output(command: &mut Command) -> Output {
    command
        .env_clear()
        .env("NO_COLOR", "1")
        .env("AWS_REGION", "eu-west-1")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}
