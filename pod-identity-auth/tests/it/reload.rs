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

use crate::stand::{Plan, Stand, code, laptop, pod, stand, stand_beside, write};

fn changed(stand: &Stand, change: impl FnOnce(&mut Vec<Value>)) -> String {
    let mut file = serde_json::to_value(stand.laptop.associations()).unwrap();
    change(file["associations"].as_array_mut().unwrap());
    file.to_string()
}

async fn becomes(stand: &Stand, service_account: &str, expected: &str) {
    let token = stand.token(&pod(service_account));
    eventually(&format!("{service_account} gets {expected}"), || async {
        (code(&stand.ask(&token).await) == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn associations_are_added_changed_and_removed_without_a_restart() {
    let stand = stand(Plan::default()).await;
    becomes(&stand, "newcomer", "association_not_found").await;
    let add = |all: &mut Vec<Value>| {
        let mut entry = all[0].clone();
        entry["serviceAccount"] = "newcomer".into();
        all.push(entry);
    };
    write(&stand.file(), &changed(&stand, add));
    becomes(&stand, "newcomer", "ok").await;
    write(
        &stand.file(),
        &changed(&stand, |all| all[0]["roleArn"] = "arn:aws:iam::111122223333:role/strict".into()),
    );
    becomes(&stand, "cart", "role_trust_refused").await;
    write(&stand.file(), &changed(&stand, Vec::clear));
    becomes(&stand, "cart", "association_not_found").await;
    write(&stand.file(), &changed(&stand, |_| ()));
    becomes(&stand, "cart", "ok").await;
}

#[tokio::test]
async fn a_broken_file_keeps_the_old_associations_and_says_why() {
    let stand = stand(Plan::default()).await;
    let name = stand.file().display().to_string();
    let twice = changed(&stand, |all| all.push(all[0].clone()));
    let nowhere = changed(&stand, |all| all[0]["clusterName"] = "nowhere".into());
    for (broken, why) in [
        ("associations: [", "associations"),
        ("", "the file is empty"),
        (twice.as_str(), "shop/cart has two associations"),
        (nowhere.as_str(), "nowhere"),
    ] {
        let errors = || lines_with(&["the old ones stay in use", "ERROR", &name, why]);
        let before = errors().len();
        write(&stand.file(), broken);
        eventually(why, || async { (errors().len() > before).then_some(()) }).await;
        assert_eq!(code(&stand.ask(&stand.token(&pod("cart"))).await), "ok", "{why}");
    }
    std::fs::remove_file(stand.file()).unwrap();
    eventually("the missing file is logged", || async { lines_with(&["No such file", &name]).pop() }).await;
    assert_eq!(code(&stand.ask(&stand.token(&pod("cart"))).await), "ok");
    write(&stand.file(), &changed(&stand, Vec::clear));
    becomes(&stand, "cart", "association_not_found").await;
}

#[tokio::test]
async fn a_file_that_is_no_regular_one_is_refused_at_once_and_the_old_associations_stay() {
    let stand = stand(Plan::default()).await;
    let name = stand.file().display().to_string();
    for (kind, why) in [("mkfifo", "it is a FIFO"), ("mkdir", "it is a directory")] {
        std::fs::remove_file(stand.file()).unwrap();
        assert!(std::process::Command::new(kind).arg(stand.file()).status().unwrap().success());
        eventually(why, || async { lines_with(&["the old ones stay in use", &name, why]).pop() }).await;
        assert_eq!(code(&stand.ask(&stand.token(&pod("cart"))).await), "ok", "{kind}");
        match kind {
            "mkdir" => std::fs::remove_dir(stand.file()).unwrap(),
            _ => std::fs::remove_file(stand.file()).unwrap(),
        }
        write(&stand.file(), &changed(&stand, |_| ()));
    }
    write(&stand.file(), &changed(&stand, Vec::clear));
    becomes(&stand, "cart", "association_not_found").await;
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
async fn a_mounted_config_map_is_followed_through_the_swap_of_its_symlink() {
    let (mount, laptop) = (tempfile::tempdir().unwrap(), laptop().await);
    let text = serde_json::to_string(laptop.associations()).unwrap();
    swap(mount.path(), "..2026_1", &text);
    let file = mount.path().join("associations.yaml");
    symlink("..data/associations.yaml", &file).unwrap();
    let stand = stand_beside(laptop, Plan { associations: Some(file), ..Plan::default() }).await;
    becomes(&stand, "cart", "ok").await;
    // Content of the same length.
    swap(mount.path(), "..2026_2", &text.replace(r#""cart""#, r#""tarc""#));
    becomes(&stand, "cart", "association_not_found").await;
    becomes(&stand, "tarc", "ok").await;
}

#[tokio::test]
async fn requests_are_answered_while_a_hundred_thousand_associations_are_read() {
    let stand = stand(Plan::default()).await;
    let (cart, last) = (stand.token(&pod("cart")), stand.token(&pod("last")));
    assert_eq!(code(&stand.ask(&cart).await), "ok");
    let grown = changed(&stand, |all| {
        let mut entry = all[0].clone();
        for number in 0..100_000 {
            entry["serviceAccount"] = format!("app-{number}").into();
            all.push(entry.clone());
        }
        entry["serviceAccount"] = "last".into();
        all.push(entry);
    });
    let lines = |text: &str| lines_with(&[text, &stand.file().display().to_string()]);
    write(&stand.file(), &grown);
    eventually("the file is being read", || async { lines("association file changed").pop() }).await;
    for _ in 0..10 {
        assert_eq!(code(&stand.ask(&cart).await), "ok");
    }
    assert_eq!(code(&stand.ask(&last).await), "association_not_found");
    assert_eq!(lines("associations loaded").len(), 1, "the file is still being read");
    let deadline = clock::monotonic() + Duration::from_secs(300);
    while code(&stand.ask(&last).await) != "ok" {
        assert!(clock::monotonic() < deadline, "the file is read");
        tokio::task::yield_now().await;
    }
    assert_eq!(code(&stand.ask(&cart).await), "ok");
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
async fn keys_of_the_old_file_give_no_role_of_the_new_file() {
    let (directory, laptop) = (tempfile::tempdir().unwrap(), laptop().await);
    let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let url = format!("http://{}/keys", listener.address().unwrap());
    let (jwks, open) = (laptop.issuer().jwks(), watch::Sender::new(false));
    let keys = Arc::new(HeldKeys { jwks, open, fetches: AtomicUsize::new(0) });
    tokio::spawn(listener.serve(keys.clone(), Shutdown::never()));
    let twin = laptop.issuer_of(&"twin".parse().unwrap()).unwrap().jwks_uri();
    let with_keys_at = |url: &str| {
        let mut file = serde_json::to_value(laptop.associations()).unwrap();
        let clusters = file["clusters"].as_array_mut().unwrap();
        clusters.iter_mut().find(|one| one["name"] == "demo").unwrap()["jwksUrl"] = url.into();
        file
    };
    let path = directory.path().join("associations.yaml");
    write(&path, &with_keys_at(&url).to_string());
    let mut new = with_keys_at(&twin);
    new["associations"][0]["roleArn"] = "arn:aws:iam::111122223333:role/web".into();
    let stand = stand_beside(laptop, Plan { associations: Some(path.clone()), ..Plan::default() }).await;
    let token = stand.token(&pod("cart"));
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
    let (answer, ()) = tokio::join!(stand.ask(&token), replace);
    assert_eq!(code(&answer), "token_key_unknown", "{}", answer.text());
}
