use super::*;

fn pod(name: &str, address: &str) -> (Uid, KnownPod) {
    let object = serde_json::json!({
        "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}")},
        "spec": {
            "serviceAccountName": "cart",
            "containers": [{"name": "app", "env": [{"name": INJECTED, "value": "http://169.254.170.23/v1/credentials"}]}],
        },
        "status": {"podIPs": [{"ip": address}], "startTime": "2026-11-30T10:00:00Z", "phase": "Running"},
    });
    KnownPod::of(serde_json::from_value(object).unwrap()).unwrap()
}

fn uid(name: &str) -> Uid {
    format!("uid-{name}").parse().unwrap()
}

/// The start time of every pod of these tests.
fn started() -> SystemTime {
    "2026-11-30T10:00:00Z".parse::<jiff::Timestamp>().unwrap().into()
}

#[test]
fn a_deleted_pod_stays_deleted_when_a_late_read_shows_it() {
    let mut table = Table::new(started());
    let (uid, running) = pod("a", "10.0.0.1");
    table.add(uid.clone(), running);
    assert_eq!(table.find(&uid), Known::Running);
    table.deleted(&uid);
    table.add(uid.clone(), pod("a", "10.0.0.1").1);
    assert_eq!(table.find(&uid), Known::Deleted);
}

#[test]
fn pods_that_a_list_does_not_have_were_deleted() {
    let mut table = Table::new(started());
    table.replace(vec![pod("a", "10.0.0.1"), pod("b", "10.0.0.2")]);
    table.replace(vec![pod("b", "10.0.0.2"), pod("c", "10.0.0.3")]);
    let found = ["a", "b", "c", "d"].map(|name| table.find(&uid(name)));
    assert_eq!(found, [Known::Deleted, Known::Running, Known::Running, Known::Not]);
    assert_eq!(table.len(), 2);
}

#[test]
fn only_the_last_4096_deleted_pods_are_remembered() {
    let mut table = Table::new(started());
    for number in 0..MAX_DELETED + 10 {
        table.deleted(&uid(&number.to_string()));
        table.deleted(&uid(&number.to_string()));
    }
    assert_eq!((table.deleted.len(), table.deleted_order.len()), (MAX_DELETED, MAX_DELETED));
    assert_eq!(table.find(&uid("9")), Known::Not);
    assert_eq!(table.find(&uid("10")), Known::Deleted);
}

#[test]
fn an_update_keeps_the_last_request() {
    let mut table = Table::new(started());
    let (uid, running) = pod("a", "10.0.0.1");
    running.requested(started() + SILENT);
    table.add(uid.clone(), running);
    table.add(uid.clone(), pod("a", "10.0.0.1").1);
    assert_eq!(table.get(&uid).unwrap().last_request(), Some(started() + SILENT));
}

#[test]
fn a_pod_without_request_counts_after_five_minutes_unless_it_is_older_than_the_agent() {
    let mut table = Table::new(started());
    table.replace(vec![pod("a", "10.0.0.1"), pod("b", "10.0.0.2")]);
    assert_eq!(table.without_request(started() + SILENT - Duration::from_secs(1)), 0);
    assert_eq!(table.without_request(started() + SILENT), 2);
    table.get(&uid("a")).unwrap().requested(started() + SILENT);
    assert_eq!(table.without_request(started() + SILENT), 1);
    let mut later = Table::new(started() + Duration::from_secs(1));
    later.replace(vec![pod("a", "10.0.0.1")]);
    assert_eq!(later.without_request(started() + 2 * SILENT), 0);
}

#[test]
fn a_request_comes_from_an_address_of_its_pod_or_from_the_node() {
    let (_, known) = pod("a", "10.0.0.1");
    let remote = || Peer::Remote("10.0.0.9".parse().unwrap());
    assert!(known.has_address("10.0.0.1".parse().unwrap(), remote));
    assert!(!known.has_address("10.0.0.9".parse().unwrap(), remote));
    assert!(!known.has_address("127.0.0.1".parse().unwrap(), || Peer::Local));
    let on_host = KnownPod { host_network: true, ..pod("b", "10.0.0.1").1 };
    assert!(on_host.has_address("10.0.0.1".parse().unwrap(), || Peer::Local));
    assert!(!on_host.has_address("10.0.0.9".parse().unwrap(), remote));
    let starting = KnownPod { addresses: vec![], ..pod("c", "10.0.0.1").1 };
    assert!(starting.has_address("10.0.0.9".parse().unwrap(), remote), "its addresses are not known yet");
}

#[test]
fn an_error_belongs_to_the_pod_of_its_address() {
    let mut table = Table::new(started());
    table.replace(vec![pod("a", "10.0.0.1"), pod("b", "10.0.0.2")]);
    table.refused("10.0.0.2".parse().unwrap(), ErrorCode::AssociationNotFound, started());
    assert!(table.get(&uid("a")).unwrap().failure().is_none());
    assert_eq!(table.get(&uid("b")).unwrap().failure().unwrap().code, ErrorCode::AssociationNotFound);
}
