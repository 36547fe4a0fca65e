//! Properties of all policies.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Generates statements with few different values, so that they often match the same request.
fn statement() -> impl Strategy<Value = Value> {
    let principals = prop_oneof![
        Just(json!("*")),
        Just(json!({"AWS": AUTH})),
        Just(json!({"AWS": ["111122223333", FOREIGN]})),
        Just(json!({"Service": "pods.eks.amazonaws.com"})),
    ];
    let actions = prop_oneof![
        Just(json!("sts:*")),
        Just(json!("sts:AssumeRole")),
        Just(json!(["sts:TagSession", "sts:AssumeRole"])),
    ];
    let conditions = prop_oneof![
        Just(json!({})),
        Just(json!({"StringEquals": {"sts:ExternalId": "a"}})),
        Just(json!({"StringNotEquals": {"sts:ExternalId": "a"}})),
        Just(json!({"ForAllValues:StringLike": {"aws:TagKeys": "k*"}})),
        Just(json!({"Null": {"sts:ExternalId": true}})),
    ];
    (any::<bool>(), principals, actions, any::<bool>(), conditions).prop_map(
        |(deny, principal, actions, not, condition)| {
            let effect = if deny { "Deny" } else { "Allow" };
            let action = if not { "NotAction" } else { "Action" };
            json!({"Effect": effect, "Principal": principal, action: actions, "Condition": condition})
        },
    )
}

fn caller() -> impl Strategy<Value = Caller> {
    prop_oneof![Just(eks()), Just(session(AUTH)), Just(session(FOREIGN)), Just(user())]
}

fn decided(
    statements: &[Value],
    caller: &Caller,
    external_id: Option<&'static str>,
    permitted: bool,
) -> bool {
    let mut case = trust(&json!(statements)).with("aws:TagKeys", &["key"]);
    if permitted {
        case = case.identity(&json!({"Effect": "Allow", "Action": "*", "Resource": "*"}));
    }
    if let Some(id) = external_id {
        case = case.with("sts:ExternalId", &[id]);
    }
    case.decide(caller, &TAGGED).is_allowed()
}

proptest! {
    #[test]
    fn further_denial_never_allows(
        mut statements in prop::collection::vec(statement(), 1..5),
        mut deny in statement(),
        caller in caller(),
        id in prop::option::of(prop_oneof![Just("a"), Just("b")]),
        permitted: bool,
    ) {
        let before = decided(&statements, &caller, id, permitted);
        deny["Effect"] = json!("Deny");
        statements.push(deny);
        prop_assert!(before || !decided(&statements, &caller, id, permitted));
    }

    #[test]
    fn order_of_statements_does_not_matter(
        statements in prop::collection::vec(statement(), 1..5),
        turn in 0usize..5,
        caller in caller(),
        id in prop::option::of(prop_oneof![Just("a"), Just("b")]),
        permitted: bool,
    ) {
        let before = decided(&statements, &caller, id, permitted);
        let mut turned = statements.clone();
        turned.rotate_left(turn % statements.len());
        prop_assert_eq!(before, decided(&turned, &caller, id, permitted));
        turned.reverse();
        prop_assert_eq!(before, decided(&turned, &caller, id, permitted));
    }
}
