use std::path::Path;
use std::time::Duration;

use pod_identity_runtime::shutdown::Ender;

use super::*;
use crate::args::parse;

/// A lookup that reads two files in a temporary directory.
struct Files {
    directory: tempfile::TempDir,
    lookup: Lookup,
    registry: Registry,
}

impl Files {
    fn with(pod_identity_file: &str, associations: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        put(&directory.path().join("identities.json"), pod_identity_file);
        put(&directory.path().join("associations.yaml"), associations);
        let mut registry = Registry::default();
        let lookup =
            Lookup::open(&config(directory.path()), None, &Readiness::default(), &mut registry).unwrap();
        Self { directory, lookup, registry }
    }

    fn put(&self, name: &str, content: &str) {
        put(&self.directory.path().join(name), content);
    }

    async fn lookup(&self, name: &str) -> (bool, Freshness) {
        let (shop, name) = ("shop".parse().unwrap(), name.parse().unwrap());
        let result = self.lookup.of(&shop, &name, None, now() + LATE).await;
        assert_eq!(result.settings, ServiceAccountSettings::default());
        (result.associated, result.freshness)
    }

    /// Returns the number of reads of a file. A file that has just changed may be read twice.
    fn reads(&self, file: &str, result: &str) -> u32 {
        let name = format!("pod_identity_file_reads_total{{file=\"{file}\",result=\"{result}\"}} ");
        self.metrics().lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or_default()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// Delay of the arrival of a review whose deadline must not matter on a busy machine.
const LATE: Duration = Duration::from_secs(30);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Replaces a file as the kubelet does in a volume of a ConfigMap: it swaps a symbolic link.
fn put(path: &Path, content: &str) {
    let written = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap().keep().unwrap().1;
    std::fs::write(&written, content).unwrap();
    let link = path.with_extension("new");
    std::os::unix::fs::symlink(&written, &link).unwrap();
    std::fs::rename(link, path).unwrap();
}

fn config(directory: &Path) -> Config {
    let flags = [
        format!("--watch-container-credentials-config={}", directory.join("identities.json").display()),
        format!("--associations={}", directory.join("associations.yaml").display()),
        "--cluster-name=demo".to_owned(),
    ];
    parse(std::iter::once("webhook".to_owned()).chain(flags)).unwrap().config().unwrap()
}

fn pod_identity_file(names: &[&str]) -> String {
    let entry = |name: &&str| format!(r#"{{"namespace": "shop", "serviceAccount": "{name}"}}"#);
    format!(r#"{{"identities": [{}]}}"#, names.iter().map(entry).collect::<Vec<_>>().join(","))
}

fn associations(names: &[&str]) -> String {
    let entry = |name: &&str| {
        format!(
            "{{clusterName: demo, namespace: shop, serviceAccount: {name}, \
             roleArn: 'arn:aws:iam::111122223333:role/x'}}"
        )
    };
    let cluster = "clusters: [{name: demo, issuer: 'https://oidc.example.com/demo'}]\n";
    format!("{cluster}associations: [{}]", names.iter().map(entry).collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn finds_service_accounts_of_either_file() {
    let files = Files::with(&pod_identity_file(&["cart"]), &associations(&["pay"]));
    for (name, associated) in [("cart", true), ("pay", true), ("night", false)] {
        assert_eq!(files.lookup(name).await, (associated, Freshness::Fresh), "{name}");
    }
}

#[tokio::test]
async fn a_review_sees_every_change_before_it() {
    let files = Files::with(&pod_identity_file(&[]), &associations(&["cart"]));
    for round in 0..20 {
        let name = format!("pay-{round}");
        files.put("associations.yaml", &associations(&["cart", &name]));
        assert_eq!(files.lookup(&name).await, (true, Freshness::Fresh), "{name}");
        files.put("identities.json", &pod_identity_file(&[&format!("also-{name}")]));
        assert_eq!(files.lookup(&format!("also-{name}")).await, (true, Freshness::Fresh), "{name}");
    }
    assert_eq!(files.lookup("pay-0").await, (false, Freshness::Fresh));
}

#[tokio::test]
async fn an_unusable_file_keeps_its_last_content_which_is_stale() {
    let files = Files::with(&pod_identity_file(&["cart"]), &associations(&["pay"]));
    for broken in [Some(""), Some("identities: ["), None] {
        match broken {
            Some(content) => files.put("identities.json", content),
            None => std::fs::remove_file(files.directory.path().join("identities.json")).unwrap(),
        }
        let (associated, freshness) = files.lookup("cart").await;
        let Freshness::Stale(failure) = freshness else { panic!("{broken:?}: {freshness:?}") };
        assert!(associated && failure.as_str() == "file", "{broken:?}");
        assert!(failure.to_string().contains("identities.json"), "{failure}");
        assert!(matches!(files.lookup("night").await, (false, Freshness::Stale(_))), "{broken:?}");
        // The other file is current and decides.
        assert_eq!(files.lookup("pay").await, (true, Freshness::Fresh), "{broken:?}");
    }
    assert!(
        files.metrics().contains("pod_identity_file_stale{file=\"identities\"} 1"),
        "{}",
        files.metrics()
    );
    files.put("identities.json", &pod_identity_file(&["night"]));
    assert_eq!(files.lookup("cart").await, (false, Freshness::Fresh));
    let metrics = files.metrics();
    assert!(metrics.contains("pod_identity_file_stale{file=\"identities\"} 0"), "{metrics}");
    assert!(files.reads("identities", "failed") >= 3, "{metrics}");
}

#[tokio::test]
async fn a_slow_read_of_a_file_delays_no_review_beyond_its_deadline() {
    let files = Files::with(&pod_identity_file(&["cart"]), &associations(&[]));
    // A read of this file takes far longer than the reviews wait.
    let many: Vec<_> = (0..200_000).map(|number| format!("cart-{number}")).collect();
    files.put("identities.json", &pod_identity_file(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    let (shop, cart) = ("shop".parse().unwrap(), "cart".parse().unwrap());
    let result = |left: Duration| files.lookup.of(&shop, &cart, None, now() + left - DEADLINE);
    let late = [result(Duration::from_millis(5)), result(Duration::from_millis(10))];
    for result in futures_util::future::join_all(late).await {
        let Freshness::Stale(failure) = result.freshness else { panic!("{:?}", result.freshness) };
        assert!(result.associated && failure.as_str() == "file_slow", "{failure}");
    }
    // A review after the next change waits for a read that begins after the change.
    files.put("identities.json", &pod_identity_file(&["night"]));
    let result = result(DEADLINE + LATE).await;
    assert_eq!((result.associated, result.freshness), (false, Freshness::Fresh));
    assert!(files.reads("identities", "ok") >= 3, "{}", files.metrics());
}

#[tokio::test]
async fn start_fails_with_the_name_of_an_unusable_file() {
    let directory = tempfile::tempdir().unwrap();
    for (pod_identity_file, associations, expected) in [
        (Some(""), associations(&[]), "identities.json: the file is empty"),
        (None, associations(&[]), "identities.json: No such file"),
        (Some(r#"{"identities": []}"#), String::new(), "associations.yaml: the file is empty"),
        (Some(r#"{"identities": []}"#), associations(&["x"]).replace("demo", "dmeo"), "--cluster-name"),
    ] {
        let path = directory.path().join("identities.json");
        let _ = std::fs::remove_file(&path);
        pod_identity_file.iter().for_each(|content| put(&path, content));
        put(&directory.path().join("associations.yaml"), &associations);
        let error =
            Lookup::open(&config(directory.path()), None, &Readiness::default(), &mut Registry::default())
                .unwrap_err();
        assert!(error.to_string().contains(expected), "{error} does not contain {expected:?}");
    }
}

#[tokio::test]
async fn reads_a_changed_file_between_reviews() {
    let files = Files::with(&pod_identity_file(&[]), &associations(&[]));
    let (ender, shutdown): (Ender, _) = Shutdown::manual();
    let following = tokio::spawn(files.lookup.clone().follow(Readiness::default(), shutdown));
    files.put("associations.yaml", &associations(&["cart"]));
    testing::eventually::eventually("the second read", || async {
        (files.reads("associations", "ok") >= 2).then_some(())
    })
    .await;
    ender.end();
    following.await.unwrap();
}
