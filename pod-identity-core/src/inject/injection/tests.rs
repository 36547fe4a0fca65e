use super::*;
use crate::inject::pod::tests::VOLUMES_LOOKED_AT;
use crate::inject::review::{AdmissionReview, Subject};

/// A review of a pod of so many containers, init containers among them, and volumes.
fn review(containers: usize, volumes: usize, container: &str) -> String {
    let list = |count: usize, item: &dyn Fn(usize) -> String| {
        format!("[{}]", (0..count).map(item).collect::<Vec<_>>().join(","))
    };
    let half = list(containers / 2, &|_| container.to_owned());
    let volumes = list(volumes, &|number| format!(r#"{{"name": "volume-{number}"}}"#));
    format!(
        r#"{{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {{"uid": "1",
            "operation": "CREATE", "namespace": "shop", "resource": {{"resource": "pods"}}, "object": {{"metadata": {{}},
            "spec": {{"volumes": {volumes}, "initContainers": {half}, "containers": {half}}}}}}}}}"#
    )
}

fn injected(body: &str) -> Injection {
    let review = AdmissionReview::parse(body.as_bytes()).unwrap();
    let Subject::Pod(pod) = &review.subject else { panic!("{:?}", review.subject) };
    let facts = ServiceAccountFacts { associated: true, ..ServiceAccountFacts::default() };
    Injector::new(Settings::default()).inject(pod, &facts, 0)
}

#[test]
fn the_volumes_of_a_pod_are_looked_through_once_however_many_containers_there_are() {
    let looked_at = |containers| {
        let before = VOLUMES_LOOKED_AT.get();
        let injection = injected(&review(containers, 1_000, r#"{"name": "x"}"#));
        // A container gets variables and mounts; the pod a label and a volume.
        assert_eq!(injection.patch.paths().count(), 2 * containers + 2);
        VOLUMES_LOOKED_AT.get() - before
    };
    assert_eq!((looked_at(2), looked_at(1_000)), (1_000, 1_000));
}

#[test]
fn there_are_as_many_warnings_as_reach_a_client_and_the_last_says_how_many_more() {
    let container = r#"{"name": "x", "env": [{"name": "AWS_PROFILE", "value": "x"}]}"#;
    let warnings =
        |containers| injected(&review(containers, 0, container)).admission_warnings().collect::<Vec<_>>();
    let all = warnings(Warning::MOST_WARNINGS);
    assert_eq!(all.len(), Warning::MOST_WARNINGS);
    assert!(all.iter().all(|warning| warning.contains("AWS_PROFILE")), "{all:?}");
    let some = warnings(1_000);
    assert_eq!(some.len(), Warning::MOST_WARNINGS);
    assert_eq!(some.last().unwrap(), "pod-identity: and 985 more warnings");
}
