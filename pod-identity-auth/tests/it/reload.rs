//! Changes of the association file while the service runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use pod_identity_runtime::clock;
use pod_identity_runtime::http::answer;
use pod_identity_runtime::listener::{Handler, Listener, Peer};
use pod_identity_runtime::shutdown::Shutdown;
use serde_json::Value;
use testing::eventually::eventually;
use testing::logs::lines_with;
use tokio::sync::watch;

use crate::test_auth::{Options, TestAuth, code, pod, services, start_auth, start_auth_with, write};

fn changed(auth: &TestAuth, change: impl FnOnce(&mut Vec<Value>)) -> String {
    let mut file = serde_json::to_value(auth.services.associations()).unwrap();
    change(file["associations"].as_array_mut().unwrap());
    file.to_string()
}

async fn becomes(auth: &TestAuth, service_account: &str, expected: &str) {
    let token = auth.token(&pod(service_account));
    eventually(&format!("{service_account} gets {expected}"), || async {
        (code(&auth.exchange(&token).await) == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn adds_changes_and_removes_associations_without_a_restart() {
    let auth = start_auth(Options::default()).await;
    becomes(&auth, "newcomer", "association_not_found").await;
    let add = |all: &mut Vec<Value>| {
        let mut entry = all[0].clone();
        entry["serviceAccount"] = "newcomer".into();
        all.push(entry);
    };
    write(&auth.file(), &changed(&auth, add));
    becomes(&auth, "newcomer", "ok").await;
    write(
        &auth.file(),
        &changed(&auth, |all| all[0]["roleArn"] = "arn:aws:iam::111122223333:role/strict".into()),
    );
    becomes(&auth, "cart", "role_trust_refused").await;
    write(&auth.file(), &changed(&auth, Vec::clear));
    becomes(&auth, "cart", "association_not_found").await;
    write(&auth.file(), &changed(&auth, |_| ()));
    becomes(&auth, "cart", "ok").await;
}

#[tokio::test]
async fn keeps_old_associations_and_logs_an_error_for_an_invalid_file() {
    let auth = start_auth(Options::default()).await;
    let name = auth.file().display().to_string();
    let twice = changed(&auth, |all| all.push(all[0].clone()));
    let nowhere = changed(&auth, |all| all[0]["clusterName"] = "nowhere".into());
    for (broken, why) in [
        ("associations: [", "associations"),
        ("", "the file is empty"),
        (twice.as_str(), "shop/cart has two associations"),
        (nowhere.as_str(), "nowhere"),
    ] {
        let errors = || lines_with(&["the old ones stay in use", "ERROR", &name, why]);
        let before = errors().len();
        write(&auth.file(), broken);
        eventually(why, || async { (errors().len() > before).then_some(()) }).await;
        assert_eq!(code(&auth.exchange(&auth.token(&pod("cart"))).await), "ok", "{why}");
    }
    std::fs::remove_file(auth.file()).unwrap();
    eventually("the missing file is logged", || async { lines_with(&["No such file", &name]).pop() }).await;
    assert_eq!(code(&auth.exchange(&auth.token(&pod("cart"))).await), "ok");
    write(&auth.file(), &changed(&auth, Vec::clear));
    becomes(&auth, "cart", "association_not_found").await;
}

#[tokio::test]
async fn keeps_old_associations_if_the_path_is_not_a_regular_file() {
    let auth = start_auth(Options::default()).await;
    let name = auth.file().display().to_string();
    for (kind, why) in [("mkfifo", "the file is a FIFO"), ("mkdir", "the file is a directory")] {
        std::fs::remove_file(auth.file()).unwrap();
        assert!(std::process::Command::new(kind).arg(auth.file()).status().unwrap().success());
        eventually(why, || async { lines_with(&["the old ones stay in use", &name, why]).pop() }).await;
        assert_eq!(code(&auth.exchange(&auth.token(&pod("cart"))).await), "ok", "{kind}");
        match kind {
            "mkdir" => std::fs::remove_dir(auth.file()).unwrap(),
            _ => std::fs::remove_file(auth.file()).unwrap(),
        }
        write(&auth.file(), &changed(&auth, |_| ()));
    }
    write(&auth.file(), &changed(&auth, Vec::clear));
    becomes(&auth, "cart", "association_not_found").await;
}

/// Updates a mounted ConfigMap as kubelet does: creates a directory and replaces the symlink to it (kubernetes
/// `atomic_writer.go`).
fn swap(mount: &Path, version: &str, text: &str) {
    let directory = mount.join(version);
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("associations.yaml"), text).unwrap();
    symlink(version, mount.join("..data_tmp")).unwrap();
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
}

#[tokio::test]
async fn follows_the_symlink_of_a_mounted_config_map() {
    let (mount, services) = (tempfile::tempdir().unwrap(), services().await);
    let text = serde_json::to_string(services.associations()).unwrap();
    swap(mount.path(), "..2026_1", &text);
    let file = mount.path().join("associations.yaml");
    symlink("..data/associations.yaml", &file).unwrap();
    let auth = start_auth_with(services, Options { associations: Some(file), ..Options::default() }).await;
    becomes(&auth, "cart", "ok").await;
    // Content of the same length.
    swap(mount.path(), "..2026_2", &text.replace(r#""cart""#, r#""tarc""#));
    becomes(&auth, "cart", "association_not_found").await;
    becomes(&auth, "tarc", "ok").await;
}

#[tokio::test]
async fn serves_requests_while_100_000_associations_are_read() {
    let auth = start_auth(Options::default()).await;
    let (cart, last) = (auth.token(&pod("cart")), auth.token(&pod("last")));
    assert_eq!(code(&auth.exchange(&cart).await), "ok");
    let grown = changed(&auth, |all| {
        let mut entry = all[0].clone();
        for number in 0..100_000 {
            entry["serviceAccount"] = format!("app-{number}").into();
            all.push(entry.clone());
        }
        entry["serviceAccount"] = "last".into();
        all.push(entry);
    });
    let lines = |text: &str| lines_with(&[text, &auth.file().display().to_string()]);
    write(&auth.file(), &grown);
    eventually("the file is being read", || async { lines("association file changed").pop() }).await;
    for _ in 0..10 {
        assert_eq!(code(&auth.exchange(&cart).await), "ok");
    }
    assert_eq!(code(&auth.exchange(&last).await), "association_not_found");
    assert_eq!(lines("associations loaded").len(), 1, "the file is still being read");
    let deadline = clock::monotonic() + Duration::from_secs(300);
    while code(&auth.exchange(&last).await) != "ok" {
        assert!(clock::monotonic() < deadline, "the file is read");
        tokio::task::yield_now().await;
    }
    assert_eq!(code(&auth.exchange(&cart).await), "ok");
}

/// Serves a key set after the test opens it.
struct HeldKeys {
    jwks: Vec<u8>,
    open: watch::Sender<bool>,
    fetches: AtomicUsize,
}

impl Handler for HeldKeys {
    async fn handle(&self, _: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        answer(StatusCode::OK, "application/json", self.jwks.clone().into())
    }
}

#[tokio::test]
async fn keys_of_the_old_file_do_not_grant_roles_of_the_new_file() {
    let (directory, services) = (tempfile::tempdir().unwrap(), services().await);
    let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let url = format!("http://{}/keys", listener.address().unwrap());
    let (jwks, open) = (services.issuer().jwks(), watch::Sender::new(false));
    let keys = Arc::new(HeldKeys { jwks, open, fetches: AtomicUsize::new(0) });
    tokio::spawn(listener.serve(keys.clone(), Shutdown::never()));
    let twin = services.issuer_of(&"twin".parse().unwrap()).unwrap().jwks_uri();
    let with_keys_at = |url: &str| {
        let mut file = serde_json::to_value(services.associations()).unwrap();
        let clusters = file["clusters"].as_array_mut().unwrap();
        clusters.iter_mut().find(|one| one["name"] == "demo").unwrap()["jwksUrl"] = url.into();
        file
    };
    let path = directory.path().join("associations.yaml");
    write(&path, &with_keys_at(&url).to_string());
    let mut new = with_keys_at(&twin);
    new["associations"][0]["roleArn"] = "arn:aws:iam::111122223333:role/web".into();
    let auth =
        start_auth_with(services, Options { associations: Some(path.clone()), ..Options::default() }).await;
    let token = auth.token(&pod("cart"));
    let replace = async {
        eventually("the keys are fetched", || async {
            (keys.fetches.load(Ordering::SeqCst) > 0).then_some(())
        })
        .await;
        write(&path, &new.to_string());
        let loaded = || lines_with(&["associations loaded", &path.display().to_string()]).len();
        eventually("the new file is in use", || async { (loaded() == 2).then_some(()) }).await;
        keys.open.send_replace(true);
    };
    let (answer, ()) = tokio::join!(auth.exchange(&token), replace);
    assert_eq!(code(&answer), "token_key_unknown", "{}", answer.text());
}
