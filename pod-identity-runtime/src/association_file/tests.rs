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
fn an_association_without_an_id_gets_a_lasting_one() {
    let id = |table: AssociationTable| table.iter().next().unwrap().1.id.to_string();
    let derived = id(association("").unwrap());
    assert_eq!(derived.len(), "a-".len() + 17);
    assert_eq!(derived, id(association("  durationSeconds: 900\n").unwrap()));
    assert_eq!(id(association("  associationId: a-1\n").unwrap()), "a-1");
}

#[test]
fn json_is_read_as_well_and_so_is_yaml_that_begins_like_it() {
    assert!(table(r#"{"clusters": [], "associations": []}"#).is_ok());
    assert!(table("{clusters: [], associations: []}").is_ok());
    let twice = table(r#"{"clusters": [], "clusters": []}"#).unwrap_err();
    assert!(twice.contains("clusters"), "{twice}");
}

#[test]
fn rejects_an_array_in_the_place_of_an_object() {
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
fn thirty_thousand_associations_in_yaml_are_not_too_many() {
    let mut text = format!("{CLUSTER}associations:\n");
    for number in 0..30_000 {
        text += &format!(
            "- {{clusterName: demo, namespace: shop, serviceAccount: a-{number}, \
             roleArn: 'arn:aws:iam::111122223333:role/cart'}}\n"
        );
    }
    assert_eq!(table(&text).unwrap().iter().count(), 30_000);
}

/// As `aws eks describe-pod-identity-association` prints it.
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
fn an_association_is_read_as_eks_prints_it() {
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
fn an_arn_and_an_external_id_of_another_association_are_refused_with_both_values() {
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
fn an_arn_of_any_region_will_do_where_the_cluster_has_none() {
    for (arn, taken) in [
        ("arn:aws:eks:eu-west-1:111122223333:podidentityassociation/demo/a-1", true),
        ("arn:aws:eks:eu-west-1:111122223333:podidentityassociation/live/a-1", false),
        ("arn:aws:eks:eu-west-1:111122223333:cluster/demo", false),
    ] {
        assert_eq!(association(&format!("  associationArn: {arn}\n")).is_ok(), taken, "{arn}");
    }
}

#[test]
fn a_cluster_has_one_issuer_or_several_each_with_keys_of_its_own_or_shared_ones() {
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
        assert!(error.contains(named), "{error:?} does not name {named:?}");
    }
}

#[test]
fn a_policy_may_be_a_text_or_a_mapping() {
    for policy in ["'{\"Version\": \"2012-10-17\"}'", "{Version: '2012-10-17'}"] {
        let table = association(&format!("  disableSessionTags: true\n  policy: {policy}\n")).unwrap();
        assert!(table.iter().next().unwrap().1.policy.as_ref().unwrap().starts_with('{'));
    }
}

#[test]
fn what_is_wrong_is_named() {
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
            "belong together",
        ),
        (
            table("{clusters: [{name: demo, issuer: x, accountId: 111122223333}], associations: []}"),
            "accountId",
        ),
    ] {
        let error = text.unwrap_err();
        assert!(error.contains(named), "{error:?} does not name {named:?}");
    }
}
