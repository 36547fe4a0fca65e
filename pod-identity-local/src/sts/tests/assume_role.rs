//! `AssumeRole`: sessions and errors.

use serde_json::json;

use super::client::*;
use crate::sts::Sts;

const TAGS: [(&str, &str); 5] = [
    ("Tags.member.1.Key", "kubernetes-namespace"),
    ("Tags.member.1.Value", "shop"),
    ("Tags.member.2.Key", "kubernetes-pod-name"),
    ("Tags.member.2.Value", "web-1"),
    ("TransitiveTagKeys.member.1", "kubernetes-namespace"),
];

/// Assumes a role of the first AWS account with the keys of the auth service.
fn assume(sts: &Sts, name: &str, more: &[(&str, &str)]) -> StsResponse {
    assume_as(sts, &Keys::of(sts, AUTH_ROLE), &role(name), more)
}

fn assume_as(sts: &Sts, keys: &Keys, role: &str, more: &[(&str, &str)]) -> StsResponse {
    let mut parameters = vec![("RoleArn", role), ("RoleSessionName", "session-1")];
    parameters.extend(more);
    call(sts, keys, "AssumeRole", &parameters)
}

fn assert_denied(response: &StsResponse, action: &str, role: &str) {
    let words = format!("is not authorized to perform: {action} on resource: {role}");
    response.assert_error(403, "AccessDenied", &words);
    assert!(response.value("Message").starts_with("User: arn:aws:"));
}

#[test]
fn session_has_the_requested_properties() {
    let sts = sts();
    let policy =
        r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}"#;
    let mut parameters = TAGS.to_vec();
    parameters.extend([
        ("SourceIdentity", "alice"),
        ("DurationSeconds", "900"),
        ("Policy", policy),
        ("PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
        ("MinimumSessionTokenSize", "2000"),
    ]);
    let response = assume(&sts, "app", &parameters).ok();
    assert_eq!(response.value("Arn"), "arn:aws:sts::111122223333:assumed-role/app/session-1");
    assert_eq!(response.value("Expiration"), "2026-11-22T06:15:00Z");
    assert_eq!(response.value("SourceIdentity"), "alice");
    assert!(response.value("SessionToken").len() >= 2000);
    assert!(response.value("AccessKeyId").starts_with("ASIA") && response.value("AccessKeyId").len() == 20);
    let (id, name) = response.value("AssumedRoleId").split_once(':').unwrap();
    assert!(id.starts_with("AROA") && id.len() == 21 && name == "session-1");
    let view = sts.inspect(response.value("AccessKeyId")).unwrap();
    assert_eq!(sts.sessions(), std::slice::from_ref(&view));
    assert_eq!(
        serde_json::to_value(&view).unwrap(),
        json!({
            "accessKeyId": response.value("AccessKeyId"),
            "assumedRoleArn": "arn:aws:sts::111122223333:assumed-role/app/session-1",
            "roleArn": "arn:aws:iam::111122223333:role/app",
            "sessionName": "session-1",
            "tags": {"kubernetes-namespace": "shop", "kubernetes-pod-name": "web-1"},
            "transitiveTagKeys": ["kubernetes-namespace"],
            "sourceIdentity": "alice",
            "policy": policy,
            "policyArns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"],
            "expiration": "2026-11-22T06:15:00Z",
            "chain": ["arn:aws:sts::111122223333:assumed-role/broker/auth"],
        })
    );
    let keys = response.keys();
    let printed = format!("{sts:?}{view:?}");
    assert!(!printed.contains(&keys.secret) && !printed.contains(&keys.token.unwrap()));
}

#[test]
fn target_session_inherits_transitive_tags_and_source_identity() {
    let sts = sts();
    let target = "arn:aws:iam::444455556666:role/target";
    let mut parameters = TAGS.to_vec();
    parameters.push(("SourceIdentity", "alice"));
    let first = assume(&sts, "app", &parameters).ok().keys();
    let second =
        assume_as(&sts, &first, target, &[("Tags.member.1.Key", "own"), ("Tags.member.1.Value", "")]).ok();
    let view = sts.inspect(second.value("AccessKeyId")).unwrap();
    assert_eq!(
        view.tags.iter().collect::<Vec<_>>(),
        [("kubernetes-namespace", "shop"), ("own", "")],
        "the tag of the pod's name is not transitive"
    );
    assert_eq!(view.transitive_tag_keys, ["kubernetes-namespace"]);
    assert_eq!(view.source_identity.as_deref(), Some("alice"));
    assert_eq!(
        view.chain,
        [
            "arn:aws:sts::111122223333:assumed-role/broker/auth",
            "arn:aws:sts::111122223333:assumed-role/app/session-1"
        ]
    );

    let conflict = [("Tags.member.1.Key", "Kubernetes-Namespace"), ("Tags.member.1.Value", "other")];
    assume_as(&sts, &first, target, &conflict).assert_error(
        400,
        "InvalidParameterValue",
        "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key \
         from the calling session.",
    );
    assume_as(&sts, &first, target, &[("SourceIdentity", "bob")]).assert_error(
        400,
        "InvalidParameterValue",
        "source",
    );
    assume_as(&sts, &first, target, &[("SourceIdentity", "alice")]).ok();

    let untagged = assume(&sts, "app", &[]).ok().keys();
    assert_denied(&assume_as(&sts, &untagged, target, &[]), "sts:AssumeRole", target);
    let why = sts.last_denial().unwrap();
    assert_eq!(why.code, "trust_no_statement");
    assert!(why.explanation.contains("aws:RequestTag/kubernetes-namespace"), "{}", why.explanation);
    assert!(why.explanation.ends_with("and the request has none"), "{}", why.explanation);
}

#[test]
fn denial_has_awss_message_and_a_recorded_reason() {
    let sts = sts();
    let response = assume(&sts, "untagged", &TAGS);
    assert_denied(&response, "sts:TagSession", &role("untagged"));
    let why = sts.denial(&response.request_id).unwrap();
    assert_eq!((why.code, why.action), ("trust_no_statement", "sts:TagSession"));
    assert!(why.explanation.contains("its actions are for sts:AssumeRole"), "{}", why.explanation);

    assert_denied(
        &assume(&sts, "untagged", &[("SourceIdentity", "a1")]),
        "sts:SetSourceIdentity",
        &role("untagged"),
    );
    assert_denied(&assume(&sts, "nobody", &[]), "sts:AssumeRole", &role("nobody"));
    assert_eq!(sts.last_denial().unwrap().code, "role_unknown");
    assert_denied(&assume(&sts, "delegated", &[]), "sts:AssumeRole", &role("delegated"));
    assert_eq!(sts.last_denial().unwrap().code, "identity_policy_missing");
    let user = Keys::of(&sts, USER);
    assume_as(&sts, &user, &role("delegated"), &[]).ok();
    assert_denied(&assume_as(&sts, &user, &role("delegated"), &TAGS), "sts:TagSession", &role("delegated"));
    assert_denied(&assume_as(&sts, &user, &role("app"), &[]), "sts:AssumeRole", &role("app"));
    assert_eq!(sts.denials().len(), 6);
}

#[test]
fn evaluates_the_context_of_the_caller() {
    let sts = sts();
    assume(&sts, "of-platform", &[]).ok();
    assume_as(&sts, &Keys::of(&sts, EKS), &role("of-cluster"), &TAGS).ok();
    let external = "arn:aws:iam::444455556666:role/external";
    let app = assume(&sts, "app", &[]).ok().keys();
    assume_as(&sts, &app, external, &[("ExternalId", "eu-west-1/111122223333/prod/shop/web")]).ok();
    assert_denied(&assume_as(&sts, &app, external, &[]), "sts:AssumeRole", external);
    let other = [("ExternalId", "eu-west-1/111122223333/prod/shop/Web")];
    assert_denied(&assume_as(&sts, &app, external, &other), "sts:AssumeRole", external);
}

#[test]
fn session_tag_overrides_role_tag() {
    let sts = sts();
    let tagged = assume(&sts, "app", &TAGS).ok().keys();
    assume_as(&sts, &tagged, &role("of-shop"), &[]).ok();
    let untagged = assume(&sts, "app", &[]).ok().keys();
    assert_denied(&assume_as(&sts, &untagged, &role("of-shop"), &[]), "sts:AssumeRole", &role("of-shop"));
    let why = sts.last_denial().unwrap().explanation;
    assert!(why.ends_with("to match \"shop\" and the request has \"none\""), "{why}");
}

#[test]
fn session_policy_limits_role_chaining() {
    let sts = sts();
    let s3 = r#"{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}"#;
    let mut parameters = TAGS.to_vec();
    parameters.push(("Policy", s3));
    let limited = assume(&sts, "app", &parameters).ok().keys();
    let target = "arn:aws:iam::444455556666:role/target";
    assert_denied(&assume_as(&sts, &limited, target, &[]), "sts:AssumeRole", target);
    assert_eq!(sts.last_denial().unwrap().code, "session_policy_missing");
}

#[test]
fn duration_is_limited_by_the_role_and_by_chaining() {
    let sts = sts();
    let seconds = |keys: &Keys, name: &str, seconds: &str| {
        assume_as(&sts, keys, &role(name), &[("DurationSeconds", seconds)])
    };
    let (auth_role, eks) = (Keys::of(&sts, AUTH_ROLE), Keys::of(&sts, EKS));
    seconds(&auth_role, "untagged", "3601").assert_error(
        400,
        "ValidationError",
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    );
    seconds(&auth_role, "app", "3601").assert_error(
        400,
        "ValidationError",
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
    );
    seconds(&auth_role, "app", "3600").ok();
    seconds(&eks, "app", "43200").ok();
    seconds(&eks, "of-cluster", "21600").ok();
    for (wrong, words) in [
        (
            "899",
            "Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900",
        ),
        ("43201", "less than or equal to 43200"),
        ("-1", "greater than or equal to 900"),
        ("1h", "integer"),
    ] {
        seconds(&auth_role, "app", wrong).assert_error(400, "ValidationError", words);
    }
}

#[test]
fn refuses_parameters_outside_the_model() {
    let sts = sts();
    let auth_role = Keys::of(&sts, AUTH_ROLE);
    call(&sts, &auth_role, "AssumeRole", &[]).assert_error(
        400,
        "ValidationError",
        "validation errors detected: Value null at 'roleArn' failed to satisfy constraint: Member must not be null",
    );
    let name = [("RoleArn", &*role("app")), ("RoleSessionName", "a b")];
    call(&sts, &auth_role, "AssumeRole", &name).assert_error(
        400,
        "ValidationError",
        r"1 validation error detected: Value 'a b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
    );
    let name = [("RoleArn", &*role("app")), ("RoleSessionName", "a")];
    call(&sts, &auth_role, "AssumeRole", &name).assert_error(
        400,
        "ValidationError",
        "greater than or equal to 2",
    );
    let long = "a".repeat(65);
    let name = [("RoleArn", &*role("app")), ("RoleSessionName", &long)];
    call(&sts, &auth_role, "AssumeRole", &name).assert_error(
        400,
        "ValidationError",
        "less than or equal to 64",
    );
    let no_role = "arn:aws:iam::111122223333:user/app";
    assume_as(&sts, &auth_role, no_role, &[]).assert_error(400, "ValidationError", "user/app is invalid");

    let (key_129, value_257, id) = ("k".repeat(129), "v".repeat(257), "i".repeat(1225));
    for (parameters, code, words) in [
        (vec![("ExternalId", "a")], "ValidationError", "'externalId'"),
        (vec![("ExternalId", &*id)], "ValidationError", "less than or equal to 1224"),
        (vec![("ExternalId", "a b")], "ValidationError", r"[\w+=,.@:\/-]*"),
        (vec![("SourceIdentity", "a b")], "ValidationError", "'sourceIdentity'"),
        (vec![("Tags.member.1.Key", "k")], "ValidationError", "Value null at 'tags.1.member.value'"),
        (vec![("Tags.member.1.Value", "v")], "ValidationError", "Value null at 'tags.1.member.key'"),
        (tag("", "v"), "ValidationError", "'tags.1.member.key'"),
        (tag(&key_129, "v"), "ValidationError", "less than or equal to 128"),
        (tag("k", &value_257), "ValidationError", "less than or equal to 256"),
        (tag("k!", "v"), "ValidationError", r"[\p{L}\p{Z}\p{N}_.:/=+\-@]+"),
        (tag("k", "v;"), "ValidationError", "'tags.1.member.value'"),
        (tag("AWS:k", "v"), "InvalidParameterValue", "aws:"),
        (
            vec![("TransitiveTagKeys.member.1", "k")],
            "InvalidParameterValue",
            "must be included in the requested",
        ),
        (vec![("SerialNumber", "arn:aws:iam::111122223333:mfa/x")], "InvalidParameterValue", "SerialNumber"),
        (vec![("ProvidedContexts.member.1.ProviderArn", "a")], "InvalidParameterValue", "ProvidedContexts"),
        (vec![("Policy", "")], "ValidationError", "'policy'"),
        (vec![("Policy", "☃")], "ValidationError", "'policy'"),
        (vec![("Policy", "{")], "MalformedPolicyDocument", "This policy contains invalid Json"),
        (vec![("Policy", "{}")], "MalformedPolicyDocument", "Syntax errors in policy."),
        (
            vec![("PolicyArns.member.1.arn", "arn:aws:iam::444455556666:policy/p")],
            "ValidationError",
            "is invalid",
        ),
        (vec![("MinimumSessionTokenSize", "4097")], "ValidationError", "4096"),
    ] {
        assume(&sts, "app", &parameters).assert_error(400, code, words);
    }
    let twice = [tag("k", "a"), vec![("Tags.member.2.Key", "K"), ("Tags.member.2.Value", "b")]].concat();
    assume(&sts, "app", &twice).assert_error(400, "InvalidParameterValue", "Duplicate tag keys found");
    assert_eq!(sts.sessions(), []);
}

fn tag<'a>(key: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("Tags.member.1.Key", key), ("Tags.member.1.Value", value)]
}

/// 50 and 51 tags, and tags and policies of several sizes.
#[test]
fn limits_tags_and_policies() {
    let sts = sts();
    let tags = |count: usize, value: &str| -> Vec<(String, String)> {
        (1..=count)
            .flat_map(|n| {
                [
                    (format!("Tags.member.{n}.Key"), format!("key-{n}")),
                    (format!("Tags.member.{n}.Value"), value.to_owned()),
                ]
            })
            .collect()
    };
    let with = |parameters: &[(String, String)]| {
        let parameters: Vec<(&str, &str)> = parameters.iter().map(|(k, v)| (&**k, &**v)).collect();
        assume(&sts, "app", &parameters)
    };
    with(&tags(50, "v")).ok();
    with(&tags(51, "v")).assert_error(
        400,
        "ValidationError",
        "Member must have length less than or equal to 50",
    );
    with(&tags(50, &"v".repeat(200))).assert_error(
        400,
        "PackedPolicyTooLarge",
        "Packed size of session tags consumes",
    );
    let arns: Vec<(String, String)> = (1..=11)
        .map(|n| (format!("PolicyArns.member.{n}.arn"), "arn:aws:iam::aws:policy/ReadOnlyAccess".to_owned()))
        .collect();
    with(&arns[..10]).ok();
    with(&arns).assert_error(400, "ValidationError", "'policyArns'");
    let policy = format!(
        r#"{{"Statement": {{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::{}"}}}}"#,
        "b".repeat(2000)
    );
    with(&[("Policy".to_owned(), policy)]).assert_error(400, "ValidationError", "less than or equal to 2048");
}
