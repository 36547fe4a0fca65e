//! Comparison of values, and combination of conditions.

use serde_json::json;

use super::*;

#[test]
fn operators_compare_as_documented() {
    // operator, wanted value, value of the request, whether the condition holds
    for (operator, wanted, actual, holds) in [
        ("StringEquals", "a", Some("a"), true),
        ("StringEquals", "a", Some("A"), false),
        ("StringEquals", "a*", Some("ab"), false),
        ("StringEquals", "a", None, false),
        ("StringNotEquals", "a", Some("a"), false),
        ("StringNotEquals", "a", Some("b"), true),
        ("StringNotEquals", "a", None, true),
        ("StringEqualsIgnoreCase", "a", Some("A"), true),
        ("StringEqualsIgnoreCase", "a", None, false),
        ("StringNotEqualsIgnoreCase", "a", Some("A"), false),
        ("StringNotEqualsIgnoreCase", "a", None, true),
        ("StringLike", "a*c?", Some("abbcd"), true),
        ("StringLike", "a*", Some("A"), false),
        ("StringLike", "*", None, false),
        ("StringNotLike", "a*", Some("ab"), false),
        ("StringNotLike", "a*", None, true),
        ("ArnEquals", "arn:aws:eks:*:1:cluster/*", Some("arn:aws:eks:eu-west-1:1:cluster/p"), true),
        ("ArnLike", "arn:aws:eks:*:cluster/p:", Some("arn:aws:eks:eu-west-1:1:cluster/p"), false),
        ("ArnLike", "arn:*:*:*:*:*", Some("no arn"), false),
        ("ArnLike", "arn:*:*:*:*:*", None, false),
        ("ArnNotEquals", "arn:aws:eks:*:1:*", Some("arn:aws:eks:eu-west-1:1:cluster/p"), false),
        ("ArnNotLike", "arn:aws:eks:*:1:*", Some("arn:aws:eks:eu-west-1:2:cluster/p"), true),
        ("ArnNotLike", "arn:aws:eks:*:1:*", None, true),
        ("Null", "true", None, true),
        ("Null", "true", Some("a"), false),
        ("Null", "false", Some("a"), true),
        ("Null", "false", None, false),
        ("StringEqualsIfExists", "a", None, true),
        ("StringEqualsIfExists", "a", Some("b"), false),
        ("ArnLikeIfExists", "arn:*:*:*:*:*", None, true),
        ("StringNotEqualsIfExists", "a", None, true),
        ("StringNotEqualsIfExists", "a", Some("a"), false),
    ] {
        let mut case = conditional(&json!({operator: {"aws:SourceArn": wanted}}));
        if let Some(actual) = actual {
            case = case.with("aws:SourceArn", &[actual]);
        }
        let decision = case.decide(&eks(), &[Action::AssumeRole]);
        assert_eq!(decision.is_allowed(), holds, "{operator} {wanted:?} {actual:?}");
    }
}

#[test]
fn set_operators_compare_as_documented() {
    for (operator, actual, holds) in [
        ("ForAllValues:StringEquals", vec!["a", "b"], true),
        ("ForAllValues:StringEquals", vec!["a"], true),
        ("ForAllValues:StringEquals", vec!["a", "c"], false),
        ("ForAllValues:StringEquals", vec![], true),
        ("ForAllValues:StringNotEquals", vec!["c", "d"], true),
        ("ForAllValues:StringNotEquals", vec!["c", "a"], false),
        ("ForAllValues:StringLikeIfExists", vec![], true),
        ("ForAnyValue:StringEquals", vec!["c", "a"], true),
        ("ForAnyValue:StringEquals", vec!["c"], false),
        ("ForAnyValue:StringEquals", vec![], false),
        ("ForAnyValue:StringNotEquals", vec!["a", "c"], true),
        ("ForAnyValue:StringNotEquals", vec!["a"], false),
        ("ForAnyValue:StringNotEquals", vec![], false),
        ("ForAnyValue:StringEqualsIfExists", vec![], true),
    ] {
        let decision = conditional(&json!({operator: {"aws:TagKeys": ["a", "b"]}}))
            .with("aws:TagKeys", &actual)
            .decide(&eks(), &[Action::AssumeRole]);
        assert_eq!(decision.is_allowed(), holds, "{operator} {actual:?}");
    }
}

#[test]
fn one_value_and_all_conditions_must_match() {
    let both = || {
        conditional(&json!({
            "StringEquals": {"sts:ExternalId": ["a", "b"], "sts:RoleSessionName": "s"},
            "StringNotEquals": {"sts:SourceIdentity": ["x", "y"]}
        }))
        .with("sts:RoleSessionName", &["s"])
    };
    let actions = [Action::AssumeRole];
    both().with("sts:ExternalId", &["b"]).allows(&eks(), &actions);
    both().with("sts:ExternalId", &["c"]).denies(&eks(), &actions, "trust_no_statement");
    let denied = both().with("sts:ExternalId", &["b"]).with("sts:SourceIdentity", &["y"]);
    denied.denies(&eks(), &actions, "trust_no_statement");
}
