use std::path::Path;

use pod_identity_runtime::shutdown::Ender;

use super::*;
use crate::args::parse;

/// Two files in a directory of their own, and what is known by them.
struct Files {
    directory: tempfile::TempDir,
    knowledge: Knowledge,
    registry: Registry,
}

impl Files {
    fn with(identities: &str, associations: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        put(&directory.path().join("identities.json"), identities);
        put(&directory.path().join("associations.yaml"), associations);
        let mut registry = Registry::default();
        let knowledge =
            Knowledge::open(&config(directory.path()), None, &Readiness::default(), &mut registry).unwrap();
        Self { directory, knowledge, registry }
    }

    fn put(&self, name: &str, content: &str) {
        put(&self.directory.path().join(name), content);
    }

    async fn ask(&self, account: &str) -> (bool, Freshness) {
        let (shop, account) = ("shop".parse().unwrap(), account.parse().unwrap());
        let answer = self.knowledge.of(&shop, &account, None, now() + PATIENCE).await;
        assert_eq!(answer.account, ServiceAccountSettings::default());
        (answer.associated, answer.freshness)
    }

    /// How often a file was read. Of one that has just changed nobody can say: it may be read once more.
    fn readings(&self, file: &str, result: &str) -> u32 {
        let name = format!("pod_identity_file_reads_total{{file=\"{file}\",result=\"{result}\"}} ");
        self.metrics().lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or_default()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// How much later than now a review arrives whose deadline is not the subject: a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Writes a file as kubelet writes a ConfigMap's: whole, by the swap of what a link leads to.
fn put(path: &Path, content: &str) {
    let written = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap().keep().unwrap().1;
    std::fs::write(&written, content).unwrap();
    lead(path, &written);
}

fn lead(path: &Path, to: &Path) {
    let link = path.with_extension("new");
    std::os::unix::fs::symlink(to, &link).unwrap();
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

fn identities(accounts: &[&str]) -> String {
    let entry = |name: &&str| format!(r#"{{"namespace": "shop", "serviceAccount": "{name}"}}"#);
    format!(r#"{{"identities": [{}]}}"#, accounts.iter().map(entry).collect::<Vec<_>>().join(","))
}

fn associations(accounts: &[&str]) -> String {
    let entry = |name: &&str| {
        format!(
            "{{clusterName: demo, namespace: shop, serviceAccount: {name}, \
             roleArn: 'arn:aws:iam::111122223333:role/x'}}"
        )
    };
    let cluster = "clusters: [{name: demo, issuer: 'https://oidc.example.com/demo'}]\n";
    format!("{cluster}associations: [{}]", accounts.iter().map(entry).collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn what_either_file_says_counts() {
    let files = Files::with(&identities(&["cart"]), &associations(&["pay"]));
    for (account, associated) in [("cart", true), ("pay", true), ("night", false)] {
        assert_eq!(files.ask(account).await, (associated, Freshness::Fresh), "{account}");
    }
}

#[tokio::test]
async fn a_review_sees_what_was_written_before_it() {
    let files = Files::with(&identities(&[]), &associations(&["cart"]));
    for round in 0..20 {
        let name = format!("pay-{round}");
        files.put("associations.yaml", &associations(&["cart", &name]));
        assert_eq!(files.ask(&name).await, (true, Freshness::Fresh), "{name}");
        files.put("identities.json", &identities(&[&format!("also-{name}")]));
        assert_eq!(files.ask(&format!("also-{name}")).await, (true, Freshness::Fresh), "{name}");
    }
    assert_eq!(files.ask("pay-0").await, (false, Freshness::Fresh));
}

#[tokio::test]
async fn a_broken_file_keeps_what_was_said_and_says_that_it_is_not_current() {
    let files = Files::with(&identities(&["cart"]), &associations(&["pay"]));
    for broken in [Some(""), Some("identities: ["), None] {
        match broken {
            Some(content) => files.put("identities.json", content),
            None => std::fs::remove_file(files.directory.path().join("identities.json")).unwrap(),
        }
        let (associated, freshness) = files.ask("cart").await;
        let Freshness::FromWatch(failure) = freshness else { panic!("{broken:?}: {freshness:?}") };
        assert!(associated && failure.as_str() == "file", "{broken:?}");
        assert!(failure.to_string().contains("identities.json"), "{failure}");
        assert!(matches!(files.ask("night").await, (false, Freshness::FromWatch(_))), "{broken:?}");
        // The other file decides by itself.
        assert_eq!(files.ask("pay").await, (true, Freshness::Fresh), "{broken:?}");
    }
    assert!(
        files.metrics().contains("pod_identity_file_stale{file=\"identities\"} 1"),
        "{}",
        files.metrics()
    );
    files.put("identities.json", &identities(&["night"]));
    assert_eq!(files.ask("cart").await, (false, Freshness::Fresh));
    let metrics = files.metrics();
    assert!(metrics.contains("pod_identity_file_stale{file=\"identities\"} 0"), "{metrics}");
    assert!(files.readings("identities", "failed") >= 3, "{metrics}");
}

#[tokio::test]
async fn a_reading_that_takes_long_keeps_no_review_beyond_its_deadline() {
    let files = Files::with(&identities(&["cart"]), &associations(&[]));
    // A file whose reading takes far longer than the reviews have left.
    let many: Vec<_> = (0..200_000).map(|number| format!("cart-{number}")).collect();
    files.put("identities.json", &identities(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    let (shop, cart) = ("shop".parse().unwrap(), "cart".parse().unwrap());
    let asked = |left: Duration| files.knowledge.of(&shop, &cart, None, now() + left - DEADLINE);
    let late = [asked(Duration::from_millis(5)), asked(Duration::from_millis(10))];
    for answer in futures_util::future::join_all(late).await {
        let Freshness::FromWatch(failure) = answer.freshness else { panic!("{:?}", answer.freshness) };
        assert!(answer.associated && failure.as_str() == "file_slow", "{failure}");
    }
    // A review that comes after the next change waits for a reading that begins after it.
    files.put("identities.json", &identities(&["night"]));
    let answer = asked(DEADLINE + PATIENCE).await;
    assert_eq!((answer.associated, answer.freshness), (false, Freshness::Fresh));
    assert!(files.readings("identities", "ok") >= 3, "{}", files.metrics());
}

#[tokio::test]
async fn a_file_that_cannot_be_used_at_the_start_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for (content, of_cluster, named) in [
        (Some(""), associations(&[]), "identities.json: the file of identities is empty"),
        (None, associations(&[]), "identities.json: No such file"),
        (Some(r#"{"identities": []}"#), String::new(), "associations.yaml: the file is empty"),
        (Some(r#"{"identities": []}"#), associations(&["x"]).replace("demo", "dmeo"), "--cluster-name"),
    ] {
        let path = directory.path().join("identities.json");
        let _ = std::fs::remove_file(&path);
        content.iter().for_each(|content| put(&path, content));
        put(&directory.path().join("associations.yaml"), &of_cluster);
        let error =
            Knowledge::open(&config(directory.path()), None, &Readiness::default(), &mut Registry::default())
                .unwrap_err();
        assert!(error.to_string().contains(named), "{error} does not name {named:?}");
    }
}

#[tokio::test]
async fn between_reviews_a_changed_file_is_read_too() {
    let files = Files::with(&identities(&[]), &associations(&[]));
    let (ender, shutdown): (Ender, _) = Shutdown::manual();
    let following = tokio::spawn(files.knowledge.clone().follow(Readiness::default(), shutdown));
    files.put("associations.yaml", &associations(&["cart"]));
    testing::eventually::eventually("the second reading", || async {
        (files.readings("associations", "ok") >= 2).then_some(())
    })
    .await;
    ender.end();
    following.await.unwrap();
}
