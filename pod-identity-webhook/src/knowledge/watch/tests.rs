use super::*;

/// A watch whose events come from the test.
struct Stand {
    watch: Watch,
    listed: Seen,
    readiness: Readiness,
    registry: Registry,
}

impl Stand {
    fn new() -> Self {
        let nobody = kube::Config::new("http://127.0.0.1:9".parse().unwrap()); // nothing is asked of it
        let client = Client::try_from(nobody).unwrap();
        let mut registry = Registry::default();
        let watch = Watch::new(client, Arc::new(Settings::default()), &mut registry);
        let readiness = Readiness::default();
        readiness.pending(ACCOUNTS_CONDITION, "not yet");
        Self { watch, listed: Seen::new(), readiness, registry }
    }

    fn hear(&mut self, event: Event<AccountObject>) {
        self.watch.apply(event, &mut self.listed, &self.readiness);
    }

    /// The name of the role that the account has; `None` before all are listed.
    fn role(&self, account: &str) -> Option<String> {
        let found = self.watch.lookup(&"shop".parse().unwrap(), &account.parse().unwrap())?;
        Some(found.role.map(|role| role.as_str().rsplit('/').next().unwrap().to_owned()).unwrap_or_default())
    }

    fn accounts(&self) -> Option<u64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().find_map(|line| line.strip_prefix("pod_identity_watch_accounts ")?.parse().ok())
    }
}

fn object(account: &str, annotations: &[(&str, &str)]) -> AccountObject {
    let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
    let metadata = serde_json::json!({"namespace": "shop", "name": account, "resourceVersion": "1", "annotations": annotations});
    serde_json::from_value(serde_json::json!({ "metadata": metadata })).unwrap()
}

fn with_role(account: &str, role: &str) -> AccountObject {
    object(account, &[("eks.amazonaws.com/role-arn", &format!("arn:aws:iam::111122223333:role/{role}"))])
}

#[tokio::test]
async fn nothing_is_known_before_all_are_listed_and_then_it_is_ready() {
    let mut stand = Stand::new();
    stand.hear(Event::Init);
    stand.hear(Event::InitApply(with_role("cart", "cart")));
    assert_eq!((stand.role("cart"), stand.accounts()), (None, Some(0)));
    assert_eq!(stand.readiness.missing().len(), 1);
    stand.hear(Event::InitDone);
    assert_eq!(stand.role("cart").as_deref(), Some("cart"));
    assert_eq!(stand.role("pay").as_deref(), Some(""));
    assert_eq!(stand.readiness.missing(), []);
}

#[tokio::test]
async fn only_accounts_that_say_something_are_kept() {
    let mut stand = Stand::new();
    stand.hear(Event::Init);
    for (account, annotation) in [
        ("ours", "podidentity.dev/irsa-through-agent"),
        ("theirs", "eks.amazonaws.com/audience"),
        ("other", "example.com/role-arn"),
        ("longer", "eks.amazonaws.com.example.com/role-arn"),
        ("bare", "eks.amazonaws.com"),
    ] {
        stand.hear(Event::InitApply(object(account, &[(annotation, "true")])));
    }
    stand.hear(Event::InitApply(object("none", &[])));
    stand.hear(Event::InitDone);
    assert_eq!(stand.accounts(), Some(2));
}

#[tokio::test]
async fn changes_and_deletions_follow_and_leave_nothing() {
    let mut stand = Stand::new();
    stand.hear(Event::Init);
    stand.hear(Event::InitDone);
    stand.hear(Event::Apply(with_role("cart", "one")));
    assert_eq!(stand.role("cart").as_deref(), Some("one"));
    stand.hear(Event::Apply(with_role("cart", "two")));
    assert_eq!(stand.role("cart").as_deref(), Some("two"));
    stand.hear(Event::Apply(object("cart", &[])));
    assert_eq!((stand.role("cart").as_deref(), stand.accounts()), (Some(""), Some(0)));
    stand.hear(Event::Apply(with_role("cart", "three")));
    stand.hear(Event::Delete(with_role("cart", "three")));
    assert_eq!((stand.role("cart").as_deref(), stand.accounts()), (Some(""), Some(0)));
    assert!(stand.watch.seen.get().unwrap().read().unwrap().is_empty());
}

#[tokio::test]
async fn while_it_lists_anew_what_was_seen_stays_and_then_goes() {
    let mut stand = Stand::new();
    stand.hear(Event::Init);
    stand.hear(Event::InitApply(with_role("cart", "cart")));
    stand.hear(Event::InitDone);
    stand.hear(Event::Init);
    stand.hear(Event::InitApply(with_role("pay", "pay")));
    assert_eq!((stand.role("cart").as_deref(), stand.role("pay").as_deref()), (Some("cart"), Some("")));
    stand.hear(Event::InitDone);
    assert_eq!((stand.role("cart").as_deref(), stand.role("pay").as_deref()), (Some(""), Some("pay")));
}
