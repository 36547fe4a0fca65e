use super::*;

/// A watch whose events come from the test.
struct Fixture {
    watch: Watch,
    listing: AllSettings,
    readiness: Readiness,
    registry: Registry,
}

impl Fixture {
    fn new() -> Self {
        let unused = kube::Config::new("http://127.0.0.1:9".parse().unwrap()); // no request is sent
        let client = Client::try_from(unused).unwrap();
        let mut registry = Registry::default();
        let readiness = Readiness::default();
        let watch = Watch::new(client, Arc::new(Settings::default()), &readiness, &mut registry);
        Self { watch, listing: AllSettings::new(), readiness, registry }
    }

    fn apply(&mut self, event: Event<ServiceAccountObject>) {
        self.watch.apply(event, &mut self.listing, &self.readiness);
    }

    /// Returns the name of the role, empty without a role. `None` before the first list is complete.
    fn role(&self, name: &str) -> Option<String> {
        let found = self.watch.settings(&"shop".parse().unwrap(), &name.parse().unwrap())?;
        Some(found.role.map(|role| role.as_str().rsplit('/').next().unwrap().to_owned()).unwrap_or_default())
    }

    fn count(&self) -> Option<u64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().find_map(|line| line.strip_prefix("pod_identity_watch_service_accounts ")?.parse().ok())
    }
}

fn object(name: &str, annotations: &[(&str, &str)]) -> ServiceAccountObject {
    let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
    let metadata = serde_json::json!({"namespace": "shop", "name": name, "resourceVersion": "1", "annotations": annotations});
    serde_json::from_value(serde_json::json!({ "metadata": metadata })).unwrap()
}

fn with_role(name: &str, role: &str) -> ServiceAccountObject {
    object(name, &[("eks.amazonaws.com/role-arn", &format!("arn:aws:iam::111122223333:role/{role}"))])
}

#[tokio::test]
async fn has_settings_and_is_ready_after_the_first_complete_list() {
    let mut fixture = Fixture::new();
    fixture.apply(Event::Init);
    fixture.apply(Event::InitApply(with_role("cart", "cart")));
    assert_eq!((fixture.role("cart"), fixture.count()), (None, Some(0)));
    assert_eq!(fixture.readiness.missing().len(), 1);
    fixture.apply(Event::InitDone);
    assert_eq!(fixture.role("cart").as_deref(), Some("cart"));
    assert_eq!(fixture.role("pay").as_deref(), Some(""));
    assert_eq!(fixture.readiness.missing(), []);
}

#[tokio::test]
async fn keeps_only_service_accounts_with_settings() {
    let mut fixture = Fixture::new();
    fixture.apply(Event::Init);
    for (name, annotation) in [
        ("ours", "podidentity.dev/irsa-through-agent"),
        ("theirs", "eks.amazonaws.com/audience"),
        ("other", "example.com/role-arn"),
        ("longer", "eks.amazonaws.com.example.com/role-arn"),
        ("bare", "eks.amazonaws.com"),
    ] {
        fixture.apply(Event::InitApply(object(name, &[(annotation, "true")])));
    }
    fixture.apply(Event::InitApply(object("none", &[])));
    fixture.apply(Event::InitDone);
    assert_eq!(fixture.count(), Some(2));
}

#[tokio::test]
async fn follows_changes_and_deletions() {
    let mut fixture = Fixture::new();
    fixture.apply(Event::Init);
    fixture.apply(Event::InitDone);
    fixture.apply(Event::Apply(with_role("cart", "one")));
    assert_eq!(fixture.role("cart").as_deref(), Some("one"));
    fixture.apply(Event::Apply(with_role("cart", "two")));
    assert_eq!(fixture.role("cart").as_deref(), Some("two"));
    fixture.apply(Event::Apply(object("cart", &[])));
    assert_eq!((fixture.role("cart").as_deref(), fixture.count()), (Some(""), Some(0)));
    fixture.apply(Event::Apply(with_role("cart", "three")));
    fixture.apply(Event::Delete(with_role("cart", "three")));
    assert_eq!((fixture.role("cart").as_deref(), fixture.count()), (Some(""), Some(0)));
    assert!(fixture.watch.listed.get().unwrap().read().unwrap().is_empty());
}

#[tokio::test]
async fn keeps_earlier_settings_until_a_new_list_is_complete() {
    let mut fixture = Fixture::new();
    fixture.apply(Event::Init);
    fixture.apply(Event::InitApply(with_role("cart", "cart")));
    fixture.apply(Event::InitDone);
    fixture.apply(Event::Init);
    fixture.apply(Event::InitApply(with_role("pay", "pay")));
    assert_eq!((fixture.role("cart").as_deref(), fixture.role("pay").as_deref()), (Some("cart"), Some("")));
    fixture.apply(Event::InitDone);
    assert_eq!((fixture.role("cart").as_deref(), fixture.role("pay").as_deref()), (Some(""), Some("pay")));
}
