//! Authorities in a ConfigMap that clients mount.

use super::*;
use crate::certificate::{CA_ENTRY, CaConfigMap, MOUNTED_WAIT};

const CONFIG_MAP: &str = "/api/v1/namespaces/eks/configmaps/authorities";

impl ApiServer {
    /// Returns the number of authorities in the ConfigMap, or `None` without the ConfigMap.
    fn mounted(&self) -> Option<usize> {
        let objects = self.objects.lock().unwrap();
        let pem = objects.get(CONFIG_MAP)?["data"][CA_ENTRY].as_str().unwrap_or_default().to_owned();
        Some(pem.matches("BEGIN").count())
    }
}

fn start(server: &Arc<ApiServer>, clock: &Clock, random: fn() -> f64) -> Replica {
    let publication = CaConfigMap::new(server.client(), "eks", "authorities");
    Replica::start_with(server, clock, random, publication, MOUNTED_WAIT)
}

#[tokio::test]
async fn publishes_the_first_authority_at_once_and_a_replacement_ten_minutes_before_its_use() {
    let (server, (hand, clock)) = (Arc::new(ApiServer::default()), clock());
    let replicas = [start(&server, &clock, || 0.25), start(&server, &clock, || 0.75)];
    pass(&hand, Duration::from_secs(15)).await;
    assert_eq!(server.mounted(), Some(1));
    for replica in &replicas {
        assert_eq!(replica.readiness.missing(), []);
    }
    let first = replicas[0].tls.validity().unwrap();
    assert_eq!(replicas[1].tls.validity(), Some(first));

    // The next certificate is due.
    let due = minimum_lifetime(MOUNTED_WAIT) * 2 / 3;
    pass(&hand, due).await;
    assert_eq!(server.mounted(), Some(2), "the replacement is published");
    let start = clock.now().monotonic;
    let mut served = None;
    while served.is_none() {
        pass(&hand, Duration::from_secs(1)).await;
        served = replicas.iter().find(|one| one.tls.validity() != Some(first));
        assert_eq!(server.mounted(), Some(2), "the old authority stays while its certificate is served");
    }
    let waited = clock.now().monotonic - start;
    let seconds = waited.as_secs();
    assert!((MOUNTED_WAIT.as_secs() - 30..MOUNTED_WAIT.as_secs() + 30).contains(&seconds), "{seconds} s");
    for replica in &replicas {
        // With the minimum lifetime a certificate is replaced a few seconds after five sixths of its life.
        let failures = |reason: &str| replica.count("webhook_certificate_failures_total", reason);
        assert_eq!(failures(""), failures("overdue"));
    }
}

#[tokio::test]
async fn repairs_a_deleted_or_overwritten_config_map_and_keeps_its_other_entries() {
    let (server, (hand, clock)) = (Arc::new(ApiServer::default()), clock());
    // The ConfigMap exists, without authorities.
    let object =
        json!({"metadata": {"name": "authorities", "resourceVersion": "1"}, "data": {"note": "kept"}});
    server.objects.lock().unwrap().insert(CONFIG_MAP.to_owned(), object);
    let replica = start(&server, &clock, || 1.0);
    pass(&hand, Duration::from_secs(15)).await;
    assert_eq!(server.mounted(), Some(1));
    assert_eq!(server.objects.lock().unwrap()[CONFIG_MAP]["data"]["note"], "kept");

    server.objects.lock().unwrap().remove(CONFIG_MAP);
    pass(&hand, TICK + STEP).await;
    assert_eq!(server.mounted(), Some(1), "created again");
    server.objects.lock().unwrap().get_mut(CONFIG_MAP).unwrap()["data"][CA_ENTRY] = json!("");
    pass(&hand, TICK + STEP).await;
    assert_eq!(server.mounted(), Some(1), "written again");
    assert_eq!(replica.readiness.missing(), []);
    assert_eq!(replica.count("webhook_certificate_failures_total", ""), 0);
}
