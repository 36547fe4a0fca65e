//! Tests of the auth service's process with a log that cannot be written, callers that never read, and an STS response
//! without an end. Each test owns its processes, and each loop is bounded.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod auth;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use testing::eventually::eventually;
use testing::wire::endless;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use self::auth::Auth;

#[tokio::test]
async fn works_with_a_full_standard_error() {
    let mut auth = Auth::start(&[], "", File::create("/dev/full").unwrap().into(), None).await;
    auth.wait_until_ready().await;
    assert_eq!(auth.exchange().await.status, 200);
    eventually("the dropped audit line is counted", || async {
        (auth.metric("pod_identity_log_lines_dropped_total", "audit").await >= 1.0).then_some(())
    })
    .await;
    auth.remove_associations();
    eventually("the removed association is refused", || async {
        (auth.exchange().await.status == 404).then_some(())
    })
    .await;
    auth.program.terminate();
    assert_eq!(auth.program.wait(Duration::from_secs(25)).code(), Some(0));
}

#[tokio::test]
async fn audit_failure_refuse_refuses_exchanges_without_an_audit_line() {
    let full = || File::create("/dev/full").unwrap().into();
    let auth = Auth::start(&["--audit-failure=refuse"], "", full(), None).await;
    auth.wait_until_ready().await;
    let answer = auth.exchange().await;
    assert_eq!((answer.status, answer.header("x-pod-identity-error")), (503, Some("audit_unwritten")));
    assert!(!answer.text().contains("secretAccessKey"), "{}", answer.text());
    let log = tempfile::NamedTempFile::new().unwrap();
    let auth = Auth::start(&["--audit-failure=refuse"], "", log.reopen().unwrap().into(), None).await;
    auth.wait_until_ready().await;
    assert_eq!(auth.exchange().await.status, 200);
    assert!(std::fs::read_to_string(log.path()).unwrap().contains("issued"));
}

#[tokio::test]
async fn serves_after_the_log_reader_has_closed() {
    let mut auth = Auth::start(&[], "", Stdio::piped(), None).await;
    auth.wait_until_ready().await;
    drop(auth.program.child().stderr.take());
    for _ in 0..20 {
        assert_eq!(auth.exchange().await.status, 200);
    }
    assert!(auth.metric("pod_identity_log_lines_dropped_total", "write_failed").await >= 1.0);
}

#[tokio::test]
async fn follows_associations_while_the_disk_of_the_log_is_full() {
    if Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| !status.success()) {
        assert!(std::env::var_os("CI").is_none(), "a mount namespace is needed under CI");
        return;
    }
    // A file system of 64 KiB, for this process only.
    let disk = tempfile::tempdir().unwrap();
    let shell = format!("mount -t tmpfs -o size=64k log {0} && exec 2>{0}/log &&", disk.path().display());
    let auth = Auth::start(&[], &shell, Stdio::null(), None).await;
    auth.wait_until_ready().await;
    let inside = format!("/proc/{}/root{}", auth.pid(), disk.path().display());
    let fill = format!("{inside}/fill");
    assert!(std::fs::write(&fill, vec![0; 1 << 20]).is_err(), "the disk is full");
    assert_eq!(auth.exchange().await.status, 200);
    auth.remove_associations();
    eventually("the removed association is refused on a full disk", || async {
        (auth.exchange().await.status == 404).then_some(())
    })
    .await;
    std::fs::remove_file(&fill).unwrap();
    eventually("lines are written again, with the number of dropped lines", || async {
        auth.exchange().await;
        let log = std::fs::read_to_string(format!("{inside}/log")).unwrap();
        log.contains("log lines dropped").then_some(())
    })
    .await;
}

#[tokio::test]
async fn serves_an_agent_while_another_peer_reads_nothing_on_1100_connections() {
    let _ = pod_identity_runtime::listener::Limits::DEFAULT.within_descriptors();
    let auth = Auth::start(&[], "ulimit -n 1024 &&", Stdio::null(), None).await;
    auth.wait_until_ready().await;
    let mut held = Vec::new();
    for _ in 0..1100 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0)).unwrap();
        let connected = tokio::time::timeout(Duration::from_secs(2), socket.connect(auth.address)).await;
        if let Ok(Ok(mut stream)) = connected {
            let _ = stream
                .write_all(b"POST /clusters/demo/assume-role-for-pod-identity HTTP/1.1\r\nHost: x\r\n")
                .await;
            held.push(stream);
        }
    }
    for _ in 0..20 {
        assert_eq!(auth.exchange().await.status, 200);
    }
    assert!(auth.program.descriptors() < 1024 - 128, "{}", auth.program.descriptors());
    assert!(auth.metric("pod_identity_connections_closed_total", "peer_limit").await >= 700.0);
}

#[tokio::test]
async fn cancels_an_sts_response_without_an_end() {
    let sts = endless("text/xml").await.unwrap();
    let auth = Auth::start(&[], "", Stdio::null(), Some(format!("http://{sts}"))).await;
    auth.wait_until_alive().await;
    let answer = auth.exchange().await;
    assert_eq!((answer.status, answer.header("x-pod-identity-error")), (503, Some("upstream_unavailable")));
    let resident = auth.program.resident_kib();
    assert!(resident < 100_000, "{resident} KiB");
}
