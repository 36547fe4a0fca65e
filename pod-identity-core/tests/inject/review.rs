use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pod_identity_core::inject::{
    AdmissionReview, Injector, InvalidReview, MAX_REVIEW_BYTES, ServiceAccountFacts, Settings, Subject,
};
use serde_json::{Value, json};

fn question(object: Value) -> Value {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "name": "cart", "namespace": "shop", "operation": "CREATE",
            "userInfo": {"username": "admin", "groups": ["system:authenticated"]},
            "object": object, "oldObject": null, "dryRun": true,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

fn pod() -> Value {
    json!({"metadata": {"name": "cart"}, "spec": {"containers": [{"name": "app"}]}})
}

fn with(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut question = question(pod());
    change(&mut question);
    question.to_string().into_bytes()
}

fn answer(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn the_answer_has_the_version_and_the_uid_of_the_question() {
    for version in ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"] {
        let body = with(|question| question["apiVersion"] = json!(version));
        let review = AdmissionReview::parse(&body).unwrap();
        assert_eq!((&*review.namespace, review.dry_run), ("shop", true));
        let Subject::Pod(pod) = &review.subject else { panic!("{:?}", review.subject) };
        let known = ServiceAccountFacts { associated: true, ..ServiceAccountFacts::default() };
        let mutation = Injector::new(Settings::default()).inject(pod, &known, 0);
        let answer = answer(&review.allow(&mutation));
        assert_eq!((&answer["apiVersion"], &answer["kind"]), (&json!(version), &json!("AdmissionReview")));
        let response = &answer["response"];
        assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
        assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
        let patch = BASE64_STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&patch).unwrap(),
            serde_json::from_str::<Value>(mutation.patch.as_json()).unwrap()
        );
    }
}

#[test]
fn an_answer_without_a_patch_names_no_patch_type() {
    let body = with(|_| {});
    let review = AdmissionReview::parse(&body).unwrap();
    let Subject::Pod(pod) = &review.subject else { panic!("{:?}", review.subject) };
    let unchanged = Injector::new(Settings::default()).inject(pod, &ServiceAccountFacts::default(), 0);
    let expected = json!({"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": true});
    assert_eq!(answer(&review.allow(&unchanged))["response"], expected);
    assert_eq!(answer(&review.allow_unchanged(None))["response"], expected);
    let warned = answer(&review.allow_unchanged(Some("look".to_owned())));
    assert_eq!(warned["response"]["warnings"], json!(["look"]));
}

#[test]
fn a_refusal_says_why() {
    let body = with(|_| {});
    let response = &answer(&AdmissionReview::parse(&body).unwrap().refuse("no role"))["response"];
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"], json!({"code": 403, "reason": "Forbidden", "message": "no role"}));
}

#[test]
fn what_is_not_the_creation_of_a_pod_is_let_through_untouched() {
    for (member, value) in [
        ("operation", json!("UPDATE")),
        ("operation", json!("DELETE")),
        ("subResource", json!("ephemeralcontainers")),
        ("subResource", json!("binding")),
        ("resource", json!({"group": "apps", "version": "v1", "resource": "deployments"})),
        ("resource", json!({"group": "metrics.k8s.io", "version": "v1", "resource": "pods"})),
    ] {
        let body = with(|question| question["request"][member] = value.clone());
        assert!(matches!(AdmissionReview::parse(&body).unwrap().subject, Subject::Other), "{member} {value}");
    }
    let body = with(|question| question["request"]["subResource"] = json!(""));
    assert!(matches!(AdmissionReview::parse(&body).unwrap().subject, Subject::Pod(_)));
}

#[test]
fn a_pod_that_cannot_be_read_can_still_be_answered() {
    for object in [json!(null), json!([]), json!({"metadata": {}}), json!("pod")] {
        let body = question(object.clone()).to_string().into_bytes();
        let review = AdmissionReview::parse(&body).unwrap();
        let Subject::Unreadable { reason, .. } = &review.subject else {
            panic!("{object}: {:?}", review.subject)
        };
        let response = &answer(&review.allow_unchanged(Some(reason.to_string())))["response"];
        assert_eq!(response["allowed"], true);
        assert!(response["warnings"][0].as_str().unwrap().contains("cannot be read"), "{response}");
    }
    let twice = String::from_utf8(with(|_| {})).unwrap().replace(r#""spec":"#, r#""spec":{},"spec":"#);
    let review = AdmissionReview::parse(twice.as_bytes()).unwrap();
    assert!(matches!(review.subject, Subject::Unreadable { .. }));
}

#[test]
fn what_is_no_review_is_an_error() {
    let kind = |body: &[u8]| AdmissionReview::parse(body).unwrap_err();
    for body in [&b""[..], b"null", b"[]", b"{", b"\xff\xfe", b"{} {}", br#"{"request": 7}"#] {
        assert!(matches!(kind(body), InvalidReview::Json(_)), "{:?}", String::from_utf8_lossy(body));
    }
    for (version, name) in
        [("v1", "Pod"), ("admission.k8s.io/v2", "AdmissionReview"), ("admission.k8s.io/v1", "Review")]
    {
        let body = with(|question| {
            question["apiVersion"] = json!(version);
            question["kind"] = json!(name);
        });
        assert!(matches!(kind(&body), InvalidReview::Kind { .. }), "{version} {name}");
    }
    for change in [
        |question: &mut Value| question["request"]["uid"] = json!(""),
        |question: &mut Value| drop(question["request"].as_object_mut().unwrap().remove("uid")),
        |question: &mut Value| question["request"] = json!(null),
    ] {
        assert_eq!(kind(&with(change)), InvalidReview::NoRequest);
    }
    // Which of two uids would the answer have to have?
    let twice = String::from_utf8(with(|_| {})).unwrap().replace(r#""uid":"#, r#""uid":"x","uid":"#);
    assert!(matches!(kind(twice.as_bytes()), InvalidReview::Json(reason) if reason.contains("uid")));
}

#[test]
fn a_large_or_deep_review_has_an_answer() {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({"filler": "x".repeat(3 * 1024 * 1024)});
    let body = question(pod).to_string().into_bytes();
    assert!(matches!(AdmissionReview::parse(&body).unwrap().subject, Subject::Pod(_)));
    assert_eq!(
        AdmissionReview::parse(&vec![b' '; MAX_REVIEW_BYTES + 1]).unwrap_err(),
        InvalidReview::TooLarge
    );

    let deep = |part: &str| {
        let nest = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        String::from_utf8(with(|_| {})).unwrap().replacen(part, &format!(r#""new":{nest},{part}"#), 1)
    };
    for part in [r#""request":"#, r#""operation":"#, r#""spec":"#] {
        let body = deep(part);
        assert!(
            matches!(AdmissionReview::parse(body.as_bytes()).unwrap().subject, Subject::Pod(_)),
            "{part}"
        );
    }
}

#[test]
fn rejects_an_array_in_the_place_of_an_object() {
    let in_an_array = |place: &str| {
        with(|question| {
            let object = question.pointer_mut(place).unwrap();
            *object = object.as_object().unwrap().values().cloned().collect();
        })
    };
    for place in ["", "/request", "/request/resource"] {
        let refused = AdmissionReview::parse(&in_an_array(place)).unwrap_err();
        assert!(matches!(refused, InvalidReview::Json(_)), "{place}: {refused:?}");
    }
    for place in ["", "/metadata", "/spec", "/spec/containers/0"] {
        let body = in_an_array(&format!("/request/object{place}"));
        let review = AdmissionReview::parse(&body).unwrap();
        assert!(matches!(review.subject, Subject::Unreadable { .. }), "{place}: {:?}", review.subject);
    }
}
