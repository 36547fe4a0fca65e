use super::*;

const CLUSTER: &str = "clusters: [{name: demo, issuer: 'https://oidc.pod-identity.test/demo'}]\n";

fn table(text: &str) -> Result<AssociationTable, String> {
    AssociationFile::parse(text).and_then(|file| file.table()).map_err(|error| error.to_string())
}

fn association(extra: &str) -> Result<AssociationTable, String> {
    table(&format!(
        "{CLUSTER}associations:\n- clusterName: demo\n  namespace: shop\n  serviceAccount: cart\n  \
         roleArn: arn:aws:iam::111122223333:role/cart\n{extra}"
    ))
}

#[test]
fn association_without_id_gets_a_stable_one() {
    let id = |table: AssociationTable| table.iter().next().unwrap().1.id.to_string();
    let derived = id(association("").unwrap());
    assert_eq!(derived.len(), "a-".len() + 17);
    assert_eq!(derived, id(association("  durationSeconds: 900\n").unwrap()));
    assert_eq!(id(association("  associationId: a-1\n").unwrap()), "a-1");
}

#[test]
fn parses_json_and_yaml_that_begins_with_a_brace() {
    assert!(table(r#"{"clusters": [], "associations": []}"#).is_ok());
    assert!(table("{clusters: [], associations: []}").is_ok());
    let twice = table(r#"{"clusters": [], "clusters": []}"#).unwrap_err();
    assert!(twice.contains("clusters"), "{twice}");
}

#[test]
fn rejects_array_in_place_of_object() {
    let cluster = r#"{"name": "demo", "issuer": "https://a.test"}"#;
    let association = r#"{"clusterName": "demo", "namespace": "shop", "serviceAccount": "cart",
        "roleArn": "arn:aws:iam::111122223333:role/cart"}"#;
    let file = |clusters: &str, associations: &str| {
        table(&format!(r#"{{"clusters": [{clusters}], "associations": [{associations}]}}"#))
    };
    assert!(file(cluster, association).is_ok());
    let array = r#"["demo", "shop", "cart", "arn:aws:iam::111122223333:role/cart", null, null, false]"#;
    let reasons = [
        file(cluster, array),
        file(r#"["demo", "https://a.test"]"#, association),
        table(&format!("[[{cluster}], [{association}]]")),
    ];
    for reason in reasons {
        assert!(reason.as_ref().is_err_and(|reason| reason.contains("line 1")), "{reason:?}");
    }
}

#[test]
fn parses_thirty_thousand_associations_in_yaml() {
    let mut text = format!("{CLUSTER}associations:\n");
    for number in 0..30_000 {
        text += &format!(
            "- {{clusterName: demo, namespace: shop, serviceAccount: a-{number}, \
             roleArn: 'arn:aws:iam::111122223333:role/cart'}}\n"
        );
    }
    assert_eq!(table(&text).unwrap().iter().count(), 30_000);
}

/// As printed by `aws eks describe-pod-identity-association`.
const OF_EKS: &str = r#"{
    "clusters": [{"name": "demo", "issuer": "https://kubernetes.default.svc", "jwksFile": "jwks.json",
        "region": "eu-west-1", "accountId": "111122223333", "jwksUrl": null}],
    "associations": [{"clusterName": "demo", "namespace": "shop", "serviceAccount": "cart",
        "roleArn": "arn:aws:iam::111122223333:role/cart",
        "associationArn": "arn:aws:eks:eu-west-1:111122223333:podidentityassociation/demo/a-9njjin9gfghecgocd",
        "associationId": "a-9njjin9gfghecgocd", "tags": {"team": "shop"},
        "createdAt": "2026-01-15T10:49:00+00:00", "modifiedAt": 1768474140.5, "ownerArn": null,
        "disableSessionTags": null, "policy": null, "durationSeconds": null,
        "targetRoleArn": "arn:aws:iam::444455556666:role/b",
        "externalId": "eu-west-1/111122223333/demo/shop/cart"}]}"#;

#[test]
fn parses_association_as_eks_prints_it() {
    for text in [OF_EKS.to_owned(), format!("# YAML\n{OF_EKS}"), OF_EKS.replace("null", "~")] {
        let table = table(&text).unwrap();
        let (_, association) = table.iter().next().unwrap();
        assert_eq!(association.id.as_str(), "a-9njjin9gfghecgocd");
        assert!(!association.disable_session_tags && association.policy.is_none());
    }
    let without_id = OF_EKS.replace(r#""associationId": "a-9njjin9gfghecgocd""#, r#""associationId": null"#);
    assert_eq!(table(&without_id).unwrap().iter().next().unwrap().1.id.as_str(), "a-9njjin9gfghecgocd");
}

#[test]
fn rejects_arn_and_external_id_of_another_association_with_both_values() {
    const ARN: &str = "arn:aws:eks:eu-west-1:111122223333:podidentityassociation/demo/a-9njjin9gfghecgocd";
    const EXTERNAL_ID: &str = "eu-west-1/111122223333/demo/shop/cart";
    for (from, to, wanted) in [
        (ARN, ARN.replace("demo", "live"), ARN),
        (ARN, ARN.replace("eu-west-1", "us-east-1"), ARN),
        (ARN, ARN.replace("a-9njjin9gfghecgocd", "a-other"), ARN),
        (ARN, "a-9njjin9gfghecgocd".to_owned(), ARN),
        (EXTERNAL_ID, EXTERNAL_ID.replace("cart", "pay"), EXTERNAL_ID),
        (EXTERNAL_ID, String::new(), EXTERNAL_ID),
    ] {
        let error = table(&OF_EKS.replace(from, &to)).unwrap_err();
        assert!(error.contains(&format!("{to:?}")) && error.contains(wanted), "{error}");
        assert!(error.starts_with("associations[0]: "), "{error}");
    }
    let nowhere =
        OF_EKS.replace(r#""region": "eu-west-1", "accountId": "111122223333""#, r#""region": null"#);
    let error = table(&nowhere).unwrap_err();
    assert!(error.contains("region and accountId"), "{error}");
}

#[test]
fn accepts_arn_of_any_region_for_cluster_without_region() {
    for (arn, taken) in [
        ("arn:aws:eks:eu-west-1:111122223333:podidentityassociation/demo/a-1", true),
        ("arn:aws:eks:eu-west-1:111122223333:podidentityassociation/live/a-1", false),
        ("arn:aws:eks:eu-west-1:111122223333:cluster/demo", false),
    ] {
        assert_eq!(association(&format!("  associationArn: {arn}\n")).is_ok(), taken, "{arn}");
    }
}

#[test]
fn cluster_has_one_or_several_issuers_with_own_or_shared_keys() {
    let read = |cluster: &str| {
        AssociationFile::parse(&format!("clusters: [{cluster}]\nassociations: []"))
            .map(|file| file.clusters[0].clone())
            .map_err(|error| error.to_string())
    };
    let names = |cluster: &ClusterEntry| {
        cluster.issuers.iter().map(|entry| entry.issuer.clone()).collect::<Vec<_>>().join(" ")
    };
    for (members, expected) in [
        ("issuer: 'https://a.test'", "https://a.test"),
        ("issuers: ['https://a.test', 'https://b.test']", "https://a.test https://b.test"),
        ("issuer: ['https://a.test', 'https://b.test']", "https://a.test https://b.test"),
        (
            "issuers: ['https://a.test', {issuer: 'https://b.test', jwksFile: b}]",
            "https://a.test https://b.test",
        ),
    ] {
        let cluster = read(&format!("{{name: demo, {members}, jwksFile: shared}}")).unwrap();
        assert_eq!(names(&cluster), expected, "{members}");
        let written = serde_json::to_string(&cluster).unwrap();
        assert_eq!(serde_json::from_str::<ClusterEntry>(&written).unwrap(), cluster, "{written}");
    }
    for (members, named) in [
        ("issuers: []", "empty"),
        ("issuer: a, issuers: [b]", "issuer"),
        ("issuers: [{issuer: a, jwksFiel: b}]", "jwksFiel"),
        ("issuers: [{jwksFile: b}]", "issuer"),
        ("issuer: null", ""),
        ("region: eu-west-1", "issuer"),
    ] {
        let error = read(&format!("{{name: demo, {members}}}")).unwrap_err();
        assert!(error.contains(named), "{error:?} does not contain {named:?}");
    }
}

#[test]
fn policy_may_be_text_or_mapping() {
    for policy in ["'{\"Version\": \"2012-10-17\"}'", "{Version: '2012-10-17'}"] {
        let table = association(&format!("  disableSessionTags: true\n  policy: {policy}\n")).unwrap();
        assert!(table.iter().next().unwrap().1.policy.as_ref().unwrap().starts_with('{'));
    }
}

#[test]
fn errors_have_the_invalid_value() {
    for (text, named) in [
        (association("  rolArn: x\n"), "rolArn"),
        (table(CLUSTER), "associations"),
        (table(&format!("{CLUSTER}assoc")), ""),
        (table(&format!("{CLUSTER}associations:\n")), ""),
        (table(r#"{"clusters": []}"#), "associations"),
        (association("  associationId: b-1\n"), "associations[0]"),
        (association("  targetRoleArn: arn:aws:iam::444455556666:role/far\n"), "region and accountId"),
        (association("  policy: {}\n"), "disableSessionTags"),
        (
            association(
                "- {clusterName: other, namespace: a, serviceAccount: b, roleArn: 'arn:aws:iam::111122223333:role/x'}\n",
            ),
            "other",
        ),
        (
            table("{clusters: [{name: demo, issuer: x, region: eu-west-1}], associations: []}"),
            "set both region and accountId",
        ),
        (
            table("{clusters: [{name: demo, issuer: x, accountId: 111122223333}], associations: []}"),
            "accountId",
        ),
    ] {
        let error = text.unwrap_err();
        assert!(error.contains(named), "{error:?} does not contain {named:?}");
    }
}
