//! Trust policies: grammar and decisions.

use pod_identity_core::arn::RoleArn;
use pod_identity_core::trust::{Action, Caller, Context, Permissions, Policy, Request, decide};
use serde_json::{Value, json};

const ACTIONS: [Action; 2] = [Action::AssumeRole, Action::TagSession];
/// Maximum length of an input, so that its changed forms stay below the quota of a trust policy.
const MAX_LENGTH: usize = 1500;

/// The input is a trust policy. Printing it and reordering its statements do not change its decisions. An additional
/// `Deny *` statement denies everything.
pub fn trust(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(policy) = Policy::trust(text) else { return };
    let document: Value = serde_json::from_str(text).expect("a policy is JSON");
    let decided = allowed(&policy);
    if text.len() > MAX_LENGTH {
        return;
    }
    // IAM restricts the characters of the text (its API, `AssumeRolePolicyDocument`). Printing replaces an escape such
    // as \uEFFE with its character.
    if document.to_string().chars().any(|character| character > '\u{ff}') {
        return;
    }
    let printed = Policy::trust(&document.to_string()).expect("a printed policy is valid");
    assert_eq!(allowed(&printed), decided);

    let statements = match &document["Statement"] {
        Value::Array(statements) => statements.clone(),
        statement => vec![statement.clone()],
    };
    let with = |statements: Vec<Value>| {
        let mut changed = document.clone();
        changed["Statement"] = Value::Array(statements);
        Policy::trust(&changed.to_string())
    };
    let turned = with(statements.iter().rev().cloned().collect()).expect("the order does not matter");
    assert_eq!(allowed(&turned), decided, "in another order");
    let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "*"});
    let denying =
        with(statements.into_iter().chain([deny]).collect()).expect("one more statement is allowed");
    assert!(!allowed(&denying).contains(&true), "Deny * does not deny");
}

/// Returns for each type of caller whether the policy allows it to assume the role with tags.
fn allowed(policy: &Policy) -> Vec<bool> {
    let role: RoleArn = "arn:aws:iam::111122223333:role/app".parse().unwrap();
    let callers = [
        Caller::Service { name: "pods.eks.amazonaws.com".into() },
        Caller::Session {
            role: "arn:aws:iam::111122223333:role/system/broker".parse().unwrap(),
            name: "auth".into(),
        },
        Caller::WebIdentity {
            provider: "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE1"
                .into(),
        },
        Caller::User("arn:aws:iam::444455556666:user/ci/robot".parse().unwrap()),
    ];
    let everything = Policy::identity(
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
    )
    .unwrap();
    let decide = |caller: &Caller| {
        let mut context = Context::of(caller);
        context.set("aws:SourceAccount", "111122223333");
        context.set("aws:SourceArn", "arn:aws:eks:eu-west-1:111122223333:cluster/demo");
        context.set("sts:ExternalId", "a");
        context.request_tags([("kubernetes-namespace", "shop"), ("kubernetes-service-account", "cart")]);
        let permissions = Permissions { identity: std::slice::from_ref(&everything), session: None };
        decide(policy, &permissions, &ACTIONS, &Request { caller, role: &role, context: &context })
            .is_allowed()
    };
    callers.iter().map(decide).collect()
}
