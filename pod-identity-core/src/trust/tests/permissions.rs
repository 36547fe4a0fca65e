//! Effects of the caller's own policies.

use serde_json::json;

use super::*;

#[test]
fn role_or_user_of_the_same_aws_account_needs_no_own_policy() {
    let named = trust(&allow(
        &json!({"AWS": [AUTH, "arn:aws:iam::111122223333:user/ci/robot"]}),
        &json!("sts:AssumeRole"),
    ));
    named.allows(&session(AUTH), &[Action::AssumeRole]);
    named.allows(&user(), &[Action::AssumeRole]);
    named.denies(&session(FOREIGN), &[Action::AssumeRole], "trust_no_statement");
    let by_session = "arn:aws:sts::111122223333:assumed-role/auth/auth";
    let by_session = trust(&allow(&json!({"AWS": by_session}), &json!("sts:AssumeRole")));
    by_session.allows(&session(AUTH), &[Action::AssumeRole]);
    let other = Caller::Session { role: AUTH.parse().unwrap(), name: "other".into() };
    by_session.denies(&other, &[Action::AssumeRole], "trust_no_statement");
}

#[test]
fn aws_account_everyone_and_foreign_role_need_an_own_policy() {
    let permitted = json!({"Effect": "Allow", "Action": "sts:Assume*", "Resource": "arn:aws:iam::*:role/a*"});
    for (principal, caller) in [
        (json!({"AWS": "111122223333"}), session(AUTH)),
        (json!({"AWS": "arn:aws:iam::111122223333:root"}), user()),
        (json!("*"), session(AUTH)),
        (json!({"AWS": "*"}), session(FOREIGN)),
        (json!({"AWS": FOREIGN}), session(FOREIGN)),
        (json!({"AWS": "arn:aws:sts::444455556666:assumed-role/auth/auth"}), session(FOREIGN)),
    ] {
        let case = || trust(&allow(&principal, &json!("sts:*")));
        case().denies(&caller, &[Action::AssumeRole], "identity_policy_missing");
        case().identity(&permitted).allows(&caller, &[Action::AssumeRole]);
        let denial = case().identity(&permitted).denies(&caller, &TAGGED, "identity_policy_missing");
        assert_eq!(denial.action, Action::TagSession);
        assert_eq!(denial.statement().unwrap().misses[0].code(), "action");
    }
    trust(&allow(&json!({"AWS": "444455556666"}), &json!("sts:*"))).identity(&permitted).denies(
        &session(AUTH),
        &[Action::AssumeRole],
        "trust_no_statement",
    );
    let elsewhere =
        json!({"Effect": "Allow", "Action": "sts:*", "Resource": "arn:aws:iam::111122223333:role/b*"});
    let denial = trust(&allow(&json!("*"), &json!("sts:*"))).identity(&elsewhere).denies(
        &session(AUTH),
        &[Action::AssumeRole],
        "identity_policy_missing",
    );
    assert_eq!(denial.statement().unwrap().misses[0].code(), "resource");
}

#[test]
fn missing_parts_of_a_resource_match_anything() {
    for (resource, holds) in [
        ("*", true),
        ("arn:aws", true),
        ("arn:aws:iam", true),
        ("arn:aws:iam::111122223333", true),
        ("arn:aws:iam::444455556666", false),
        ("arn:aws:iam::111122223333:*", true),
        ("arn:aws:iam:111122223333:role/app", false),
        ("arn:*:role/app", false),
    ] {
        let permitted = json!({"Effect": "Allow", "Action": "sts:*", "Resource": resource});
        let case = trust(&allow(&json!("*"), &json!("sts:*"))).identity(&permitted);
        let decision = case.decide(&session(AUTH), &[Action::AssumeRole]);
        assert_eq!(decision.is_allowed(), holds, "{resource}");
    }
}

#[test]
fn root_user_service_and_web_identity_need_only_the_trust_policy() {
    let root = Caller::Root { partition: "aws".parse().unwrap(), account: "111122223333".parse().unwrap() };
    trust(&allow(&json!({"AWS": "111122223333"}), &json!("sts:*"))).allows(&root, &TAGGED);
    trust(&allow(&json!("*"), &json!("sts:*"))).allows(&eks(), &TAGGED);
    trust(&allow(&json!("*"), &json!("sts:*"))).allows(&web(), &[Action::AssumeRoleWithWebIdentity]);
}

#[test]
fn denial_in_any_policy_overrides() {
    let named = allow(&json!({"AWS": AUTH}), &json!("sts:*"));
    let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "sts:TagSession"});
    for statements in [json!([named, deny]), json!([deny, named])] {
        trust(&statements).allows(&session(AUTH), &[Action::AssumeRole]);
        trust(&statements).denies(&session(AUTH), &TAGGED, "trust_explicit_deny");
    }
    let denied = json!({"Sid": "Never", "Effect": "Deny", "Action": "sts:tagsession", "NotResource": "arn:aws:iam::1*:role/b"});
    let denial = trust(&named).identity(&denied).denies(&session(AUTH), &TAGGED, "identity_explicit_deny");
    assert!(denial.to_string().ends_with("statement 1 (Never) of the caller's own policy denies it"));
}

#[test]
fn session_policy_only_restricts() {
    let named = || trust(&allow(&json!({"AWS": AUTH}), &json!("sts:*")));
    let s3 = json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"});
    let all = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    named().session(&s3).denies(&session(AUTH), &TAGGED, "session_policy_missing");
    named().session(&s3).session(&all).allows(&session(AUTH), &TAGGED);
    let denies = json!({"Effect": "Deny", "Action": "sts:*", "Resource": "*"});
    named().session(&all).session(&denies).denies(&session(AUTH), &TAGGED, "session_explicit_deny");
    // A session that the policy names by its own ARN is not restricted by its session policy.
    let by_session = "arn:aws:sts::111122223333:assumed-role/auth/auth";
    trust(&allow(&json!({"AWS": by_session}), &json!("sts:*"))).session(&s3).allows(&session(AUTH), &TAGGED);
    trust(&allow(&json!("*"), &json!("sts:*"))).session(&all).denies(
        &session(AUTH),
        &TAGGED,
        "identity_policy_missing",
    );
}
