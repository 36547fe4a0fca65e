//! Valid and invalid fixture files.

use super::*;

const TRUST: &str =
    "{Statement: {Effect: Allow, Principal: {AWS: '111122223333'}, Action: 'sts:AssumeRole'}}";

/// Reads a fixture with these lines after the accounts.
fn world(lines: &str) -> Result<World, WorldError> {
    World::from_yaml(&format!("accounts: ['111122223333', '444455556666']\n{lines}"))
}

#[track_caller]
fn refused(lines: &str, path: &str, words: &str) {
    let error = world(lines).expect_err("an invalid file was accepted");
    assert_eq!(error.path(), path, "{error}");
    assert!(error.to_string().contains(words), "{error} does not contain {words:?}");
}

fn roles(entries: &[String]) -> String {
    format!("roles:\n{}", entries.iter().map(|entry| format!("  - {entry}\n")).collect::<String>())
}

fn role(name: &str, more: &str) -> String {
    format!("{{arn: 'arn:aws:iam::111122223333:role/{name}', trust: {TRUST}{more}}}")
}

fn caller(principal: &str) -> String {
    let roles = roles(&[role("broker", "")]);
    format!("{roles}callers:\n  - {{accessKeyId: AKIAEXAMPLE000000, principal: {principal}}}\n")
}

#[test]
fn policies_may_be_nested_or_json_or_lists_of_either() {
    let json = r#"'{"Statement": {"Effect": "Allow", "Action": "sts:*", "Resource": "*"}}'"#;
    let nested = "{Statement: [{Effect: Deny, Action: 's3:*', Resource: '*'}]}";
    let both = format!(", permissions: [{json}, {nested}], maxSessionDuration: 7200, tags: {{Team: a}}");
    let world = world(&roles(&[role("a", &both), role("b", &format!(", permissions: {json}"))])).unwrap();
    let permissions: Vec<usize> = world.roles().map(|role| role.permissions.len()).collect();
    assert_eq!(permissions, [2, 1]);
    let first = world.roles().next().unwrap();
    assert_eq!(first.max_session_duration, Duration::from_secs(7200));
    assert_eq!(first.tags.value("team"), Some("a"));
}

#[test]
fn json_is_read_as_well() {
    let json = r#"{"accounts": ["111122223333"], "clusters": [{"name": "demo", "issuer": "https://oidc.pod-identity.test/demo"}]}"#;
    let world = World::from_yaml(json).unwrap();
    assert_eq!(world.accounts().count(), 1);
    assert_eq!(world.associations.clusters[0].name.as_str(), "demo");
}

#[test]
fn an_account_keeps_its_digits_without_quotes() {
    let world = World::from_yaml("accounts: [111122223333, 012345678901]").unwrap();
    let accounts: Vec<&str> = world.accounts().map(AccountId::as_str).collect();
    assert_eq!(accounts, ["012345678901", "111122223333"]);
}

#[test]
fn a_longer_trust_policy_needs_the_raised_quota() {
    let statement = "{Effect: Allow, Principal: {AWS: '111122223333'}, Action: 'sts:AssumeRole'}";
    let long = vec![statement; 40].join(", ");
    let long = role("a", "").replace(TRUST, &format!("{{Statement: [{long}]}}"));
    refused(&roles(std::slice::from_ref(&long)), "roles[0].trust", "2048 are allowed");
    assert!(world(&format!("trustPolicyLength: 8192\n{}", roles(&[long]))).is_ok());
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    refused("accunts: []", "", "accunts");
    refused("trustPolicyLength: 9000", "trustPolicyLength", "8192");
    assert_eq!(World::from_yaml("accounts: ['1']").unwrap_err().path(), "accounts[0]");
    assert_eq!(
        World::from_yaml("accounts: ['111122223333', '111122223333']").unwrap_err().path(),
        "accounts[1]"
    );

    refused(&roles(&[role("a", ", color: red")]), "", "color");
    refused(&roles(&[role("a", ", maxSessionDuration: 60")]), "roles[0].maxSessionDuration", "3600");
    refused(&roles(&[role("a", ", tags: {'aws:x': b}")]), "roles[0].tags", "aws:x");
    refused(&roles(&[role("a", ", tags: {k: a, K: b}")]), "roles[0].tags", "case");
    refused(&roles(&[role("a", ", permissions: ['{']")]), "roles[0].permissions[0]", "not a JSON policy");
    refused(&roles(&[role("a", ""), role("path/A", "")]), "roles[1].arn", "same name");
    refused(
        &roles(&[role("a", "").replace("111122223333:role", "777777777777:role")]),
        "roles[0].arn",
        "777777777777 is not among accounts",
    );
    refused(&roles(&[role("a", "").replace("role/a", "user/a")]), "roles[0].arn", "IAM role");
    refused(
        &roles(&[role("a", ""), role("b", ""), role("c", "").replace("Allow", "Permit")]),
        "roles[2].trust",
        "Statement[0].Effect: \"Permit\"",
    );
    refused(&roles(&[role("a", "").replace("Allow,", "Allow, Effect: Deny,")]), "", "Effect");
}

#[test]
fn providers_are_checked_as_iam_checks_them() {
    let provider = |of: &str, url: &str, ids: &str| {
        format!("oidcProviders:\n  - {{{of}, url: '{url}', clientIds: {ids}}}\n")
    };
    let account = "account: '111122223333'";
    let good = world(&provider(account, "https://oidc.example/id/A", "[sts.amazonaws.com]")).unwrap();
    let issuer = "111122223333".parse().unwrap();
    assert_eq!(
        good.provider(&issuer, "https://oidc.example/id/A").unwrap().arn,
        "arn:aws:iam::111122223333:oidc-provider/oidc.example/id/A"
    );
    let by_arn = "arn: 'arn:aws:iam::111122223333:oidc-provider/localhost:8443'";
    assert!(world(&provider(by_arn, "https://localhost:8443", "[a]")).is_ok());
    for (of, url, ids, path) in [
        (account, "http://oidc.example", "[a]", "oidcProviders[0].url"),
        (account, "https://oidc.example:8443", "[a]", "oidcProviders[0].url"),
        (account, "https://oidc.example/?a", "[a]", "oidcProviders[0].url"),
        (account, "https://oidc.example/", "[a]", "oidcProviders[0].url"),
        (account, "https://", "[a]", "oidcProviders[0].url"),
        (account, "https://oidc.example", "[]", "oidcProviders[0].clientIds"),
        (by_arn, "https://oidc.example", "[a]", "oidcProviders[0].arn"),
        ("account: '999999999999'", "https://oidc.example", "[a]", "oidcProviders[0]"),
    ] {
        refused(&provider(of, url, ids), path, "");
    }
}

#[test]
fn a_caller_is_one_thing_with_what_belongs_to_it() {
    let broker = "role: 'arn:aws:iam::111122223333:role/broker'";
    for good in [
        "{service: pods.eks.amazonaws.com, sourceAccount: '111122223333', sourceArn: 'arn:aws:eks:a:b:c'}",
        "{role: 'arn:aws:iam::111122223333:role/broker', sessionName: auth, tags: {a: b}, transitiveTagKeys: [A]}",
        "{user: 'arn:aws:iam::444455556666:user/u', permissions: []}",
    ] {
        let world = world(&caller(good)).unwrap();
        assert_eq!(world.callers().next().unwrap().secret_access_key.expose().len(), 40);
    }
    for (principal, path, words) in [
        ("{}", "callers[0].principal", "give one of"),
        ("{service: a.b, sessionName: s}", "callers[0].principal", "give one of"),
        ("{service: ec2}", "callers[0].principal.service", "ec2"),
        (&format!("{{{broker}}}"), "callers[0].principal.sessionName", "2 to 64"),
        (&format!("{{{broker}, sessionName: 'a b'}}"), "callers[0].principal.sessionName", "a b"),
        (
            &format!("{{{broker}, sessionName: ab, transitiveTagKeys: [k]}}"),
            "callers[0].principal.transitiveTagKeys",
            "\"k\"",
        ),
        (
            "{role: 'arn:aws:iam::111122223333:role/other', sessionName: ab}",
            "callers[0].principal.role",
            "declare it",
        ),
        ("{user: 'arn:aws:iam::777777777777:user/u'}", "callers[0].principal.user", "777777777777"),
        ("{user: root}", "callers[0].principal.user", "IAM user"),
    ] {
        refused(&caller(principal), path, words);
    }
    let twice =
        caller("{service: a.b}") + "  - {accessKeyId: AKIAEXAMPLE000000, principal: {service: a.c}}\n";
    refused(&twice, "callers[1].accessKeyId", "twice");
    refused(
        &caller("{service: a.b}").replace("AKIAEXAMPLE000000", "short"),
        "callers[0].accessKeyId",
        "short",
    );
}

#[test]
fn associations_are_checked_as_the_auth_service_checks_them() {
    let association = |cluster: &str, more: &str| {
        let roles = roles(&[role("c", "")]);
        format!(
            "{roles}clusters: [{{name: demo, issuer: 'https://oidc.pod-identity.test/demo', region: a, accountId: '111122223333'}}]\nassociations:\n  - \
             {{clusterName: {cluster}, namespace: a, serviceAccount: b, roleArn: \
             'arn:aws:iam::111122223333:role/c'{more}}}\n"
        )
    };
    assert!(world(&association("demo", "")).is_ok());
    refused(&association("other", ""), "", "names the cluster other, which is not declared");
    refused(&association("demo", ", associationId: b-1"), "", "associations[0]");
    let other = association("demo", "").replace("role/c'}\n", "role/d'}\n");
    refused(&other, "associations[0].roleArn", "111122223333:role/d is not among roles: declare it");
    for account in ["111122223333", "777777777777"] {
        let target = association("demo", &format!(", targetRoleArn: 'arn:aws:iam::{account}:role/d'"));
        refused(&target, "associations[0].targetRoleArn", "role/d is not among roles");
    }
}

#[test]
fn no_secret_prints() {
    let lines = caller("{service: a.b}")
        .replace("principal", "secretAccessKey: hunter2, sessionToken: swordfish, principal");
    let printed = format!("{:?}", world(&lines).unwrap());
    assert!(!printed.contains("hunter2") && !printed.contains("swordfish"), "{printed}");
}
