//! Accepted and rejected policies, with the error messages.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::*;
use super::{allow, policy};

#[track_caller]
fn refused(result: Result<Policy, PolicyError>, words: &str) {
    let error = result.expect_err("the policy was accepted").to_string();
    assert!(error.contains(words), "{error:?} does not contain {words:?}");
}

fn with(element: &str, value: &Value) -> String {
    let mut statement = allow(&json!("*"), &json!("sts:AssumeRole"));
    statement[element] = value.clone();
    policy(&statement)
}

#[test]
fn rejects_invalid_trust_policy_with_position() {
    for (json, words) in [
        ("", "not a JSON policy"),
        ("[]", "is a list, want an object"),
        ("{}", "the element Statement is missing"),
        (r#"{"Statement": []}"#, "the list is empty"),
        (r#"{"Version": "2020-01-01", "Statement": []}"#, "Version: \"2020-01-01\" is neither"),
        (r#"{"Statement": [], "Statement": []}"#, "the key \"Statement\" is duplicate"),
        (r#"{"Statements": []}"#, "\"Statements\" is not an element"),
        (r#"{"Statement": {"Effect": "Allow", "Effect": "Deny"}}"#, "\"Effect\" is duplicate"),
        (r#"{"Id": "snow ☃", "Statement": {}}"#, "character '☃'"),
        (r#"{"Id": 1, "Statement": {}}"#, "Id: is a number"),
        (r#"{"Statement": {"Principal": "*", "Action": "sts:*"}}"#, "Statement[0]: the element Effect is"),
        (r#"{"Statement": {"Effect": "Allow", "Action": "sts:*"}}"#, "Statement[0]: the element Principal"),
        (r#"{"Statement": {"Effect": "Allow", "Principal": "*"}}"#, "Statement[0]: the element Action is"),
    ] {
        refused(Policy::trust(json), words);
    }
    for (element, value, words) in [
        ("Effect", json!("allow"), "Statement[0].Effect: \"allow\" is neither"),
        ("Sid", json!("a-b"), "Statement[0].Sid"),
        ("NotPrincipal", json!("*"), "Statement[0].NotPrincipal: not allowed in a trust policy"),
        ("Resource", json!("*"), "Statement[0].Resource: not allowed in a trust policy"),
        ("NotAction", json!("sts:*"), "exclude each other"),
        ("Extra", json!(1), "Statement[0]: \"Extra\" is not an element"),
        ("Action", json!([]), "Statement[0].Action: the list is empty"),
        ("Action", json!("AssumeRole"), "no service prefix"),
        ("Action", json!("sts:Assume Role"), "is not an action"),
        ("Action", json!("s3:GetObject"), "is not an action of STS"),
        ("Action", json!(1), "is a number"),
        ("Principal", json!("me"), "Statement[0].Principal: neither"),
        ("Principal", json!({}), "the list is empty"),
        ("Principal", json!({"Aws": "*"}), "Principal.Aws: want AWS, Service or Federated"),
        ("Principal", json!({"CanonicalUser": "x"}), "S3"),
        ("Principal", json!({"AWS": "arn:aws:iam::111122223333:role/*"}), "role/*"),
        ("Principal", json!({"AWS": 111_122_223_333_u64}), "is a number"),
        ("Principal", json!({"AWS": "arn:aws:sts::111122223333:assumed-role/"}), "assumed-role/"),
        ("Principal", json!({"AWS": "AROAEXAMPLE"}), "AROAEXAMPLE"),
        ("Principal", json!({"Service": "*"}), "is not a principal of this type"),
        ("Principal", json!({"Service": "localhost"}), "localhost"),
        ("Principal", json!({"Service": "eks_auth.amazonaws.com"}), "eks_auth"),
        ("Principal", json!({"Federated": "https://issuer.example"}), "https://issuer.example"),
        ("Principal", json!({"Federated": "arn:azure:iam::111122223333:oidc-provider/a"}), "azure"),
        ("Principal", json!({"Federated": "arn:aws:iam::1:oidc-provider/a"}), "iam::1:"),
        ("Principal", json!({"Federated": "arn:aws:iam::111122223333:role/a"}), "role/a"),
        ("Principal", json!({"Federated": "arn:aws:iam::111122223333:oidc-provider/"}), "oidc-provider/"),
        ("Principal", json!({"Federated": "arn:aws:iam::111122223333:oidc-provider/*"}), "oidc-provider/*"),
    ] {
        refused(Policy::trust(&with(element, &value)), words);
    }
    let twice = json!({"Sid": "A", "Effect": "Deny", "Principal": "*", "Action": "sts:*"});
    refused(Policy::trust(&policy(&json!([twice, twice]))), "Statement[1].Sid: another statement");
}

#[test]
fn accepts_every_type_of_principal() {
    let at_aws = |principal: &str| json!({ "AWS": principal });
    for principal in [
        at_aws("arn:aws:iam::111122223333:user/ci/robot"),
        at_aws("arn:aws:sts::111122223333:federated-user/robot"),
        json!({"Service": "eks-auth.amazonaws.com"}),
        json!({"Federated": "arn:aws:iam::111122223333:saml-provider/corp"}),
        json!({"Federated": "cognito-identity.amazonaws.com"}),
    ] {
        let statement = allow(&principal, &json!("sts:AssumeRole"));
        let named = json!({"Id": "named", "Statement": statement}).to_string();
        assert!(Policy::trust(&named).is_ok(), "{principal}");
    }
}

#[test]
fn error_has_the_position() {
    let error = Policy::trust(&with("Sid", &json!("a-b"))).unwrap_err();
    assert_eq!(error.place(), "Statement[0].Sid");
    assert_eq!(Policy::trust("").unwrap_err().place(), "");
}

#[test]
fn user_arn_is_not_a_role_arn() {
    let user: UserArn = "arn:aws:iam::111122223333:user/ci/robot".parse().unwrap();
    assert_eq!(
        (user.as_str(), user.account().as_str()),
        ("arn:aws:iam::111122223333:user/ci/robot", "111122223333")
    );
    assert_eq!(user.to_string(), user.as_str());
    for text in ["arn:aws:iam::111122223333:role/ci/robot", "arn:aws:iam::1:user/robot", "user/robot"] {
        assert!(text.parse::<UserArn>().is_err(), "{text}");
    }
}

#[test]
fn rejects_unsupported_conditions_and_names_them() {
    for (condition, words, unsupported) in [
        (
            json!({"StringEqauls": {"sts:ExternalId": "a"}}),
            "\"StringEqauls\" is not a condition operator",
            false,
        ),
        (json!({"NumericLessThan": {"sts:ExternalId": 1}}), "\"NumericLessThan\" is not supported", true),
        (json!({"ForAnyValue:IpAddress": {"aws:SourceIp": "::/0"}}), "ForAnyValue:IpAddress", true),
        (json!({"StringEquals": {"aws:username": "a"}}), "the condition key \"aws:username\"", true),
        (json!({"StringEquals": {"sts:ExternalId": "${aws:PrincipalTag/a}"}}), "${aws:PrincipalTag/a}", true),
        (json!({"StringLike": {"sts:ExternalId": ["a", "${*}"]}}), "the policy variable in \"${*}\"", true),
        (json!({"NullIfExists": {"sts:ExternalId": "true"}}), "NullIfExists", false),
        (json!({"ForAllValues:Null": {"aws:TagKeys": "true"}}), "ForAllValues:Null", false),
        (json!({"Null": {"aws:TagKeys": "yes"}}), "neither true nor false", false),
        (json!({"StringEquals": {"aws:TagKeys": "a"}}), "use ForAllValues: or ForAnyValue:", false),
        (json!({"ArnLike": {"aws:SourceArn": "*"}}), "not an ARN of six parts", false),
        (json!({"StringEquals": {"sts:ExternalId": {}}}), "is an object", false),
        (json!({"StringEquals": {"sts:ExternalId": "a", "sts:externalid": "b"}}), "is duplicate", false),
        (json!({"StringEquals": "a"}), "Condition.StringEquals: is a string", false),
        (json!([]), "Statement[0].Condition: is a list", false),
    ] {
        let error = Policy::trust(&with("Condition", &condition)).expect_err("the policy was accepted");
        assert!(error.to_string().contains(words), "{error} does not contain {words}");
        assert_eq!(error.is_unsupported(), unsupported, "{error}");
    }
    // Policies before version 2012-10-17 have no variables, so the same text is literal.
    let mut old: Value = serde_json::from_str(&with(
        "Condition",
        &json!({"StringEquals": {"sts:ExternalId": "${aws:username}"}}),
    ))
    .unwrap();
    old["Version"] = json!("2008-10-17");
    assert!(Policy::trust(&old.to_string()).is_ok());
}

#[test]
fn identity_policy_has_resources_and_no_principals() {
    let statement = |more: Value| {
        let mut statement = json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"});
        for (key, value) in more.as_object().unwrap() {
            statement[key] = value.clone();
        }
        policy(&statement)
    };
    assert!(Policy::identity(&statement(json!({}))).is_ok());
    refused(Policy::identity(&statement(json!({"Principal": "*"}))), "whose principal is its user or role");
    refused(Policy::identity(&statement(json!({"NotResource": "*"}))), "exclude each other");
    refused(Policy::identity(&statement(json!({"Resource": "role/a"}))), "neither \"*\" nor an ARN");
    let variable = json!({"Resource": "arn:aws:iam::*:role/${aws:PrincipalTag/team}"});
    refused(Policy::identity(&statement(variable)), "${aws:PrincipalTag/team}");
    let no_resource = json!({"Effect": "Allow", "Action": "sts:AssumeRole"});
    refused(Policy::identity(&policy(&no_resource)), "the element Resource is missing");
}

#[test]
fn statements_of_other_services_may_have_unsupported_but_not_misspelled_conditions() {
    let s3 = |operator: &str| {
        policy(&json!({
            "Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/${aws:PrincipalTag/team}/*",
            "Condition": {operator: {"s3:prefix": "${aws:username}"}}
        }))
    };
    assert!(Policy::identity(&s3("StringLike")).is_ok());
    assert!(Policy::identity(&s3("NumericEquals")).is_ok());
    refused(Policy::identity(&s3("StringLikes")), "\"StringLikes\" is not a condition operator");
    refused(Policy::identity(&s3("StringLike").replace("s3:GetObject", "*")), "${aws:PrincipalTag/team}");
}

#[test]
fn white_space_does_not_count_toward_the_length_of_a_trust_policy() {
    let statement = allow(&json!("*"), &json!("sts:AssumeRole"));
    let many = json!(vec![&statement; 40]);
    let error = Policy::trust(&policy(&many)).unwrap_err().to_string();
    assert!(error.contains("want at most 2048"), "{error}");
    let document = PolicyDocument::from_json(&policy(&many)).unwrap();
    assert!(Policy::trust_of(&document, document.length()).is_ok());
    assert!(Policy::trust_of(&document, document.length() - 1).is_err());
    assert!(Policy::trust_of(&document, TRUST_POLICY_LENGTH_MAX).is_ok());
    assert!(Policy::trust(&format!("{}{}", policy(&statement), " ".repeat(5_000))).is_ok());
}

#[test]
fn nested_document_equals_its_json_text() {
    let text = with("Condition", &json!({"StringEquals": {"sts:ExternalId": ["a", "b c"]}}));
    let nested: Value = serde_json::from_str(&text).unwrap();
    let from_text = PolicyDocument::deserialize(Value::String(text)).unwrap();
    let from_value = PolicyDocument::deserialize(nested).unwrap();
    assert_eq!(from_text.length(), from_value.length());
    let limit = TRUST_POLICY_LENGTH;
    assert_eq!(Policy::trust_of(&from_text, limit).unwrap(), Policy::trust_of(&from_value, limit).unwrap());
}

/// Generates JSON from the words of the grammar, so that it passes the first checks.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        prop::sample::select(vec![
            "Version",
            "2012-10-17",
            "Statement",
            "Effect",
            "Allow",
            "Principal",
            "AWS",
            "*",
            "Action",
            "sts:AssumeRole",
            "Condition",
            "StringEquals",
            "ForAllValues:StringLike",
            "aws:TagKeys",
            "Sid",
            "arn:aws:iam::111122223333:root",
            "Null",
            "true",
            "Resource",
            "${a}",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(word.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn parser_does_not_panic_for_any_json(value in any_json()) {
        let _ = Policy::trust(&value.to_string());
        let _ = Policy::identity(&value.to_string());
        let _ = PolicyDocument::deserialize(value);
    }

    #[test]
    fn parser_does_not_panic_for_any_text(text in "\\PC{0,64}") {
        let _ = Policy::trust(&text);
    }
}
