//! Decisions, case by case, and what must hold for all of them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::arn::RoleArn;

mod grammar;

const ROLE: &str = "arn:aws:iam::111122223333:role/app";
const BROKER: &str = "arn:aws:iam::111122223333:role/system/broker";
const FOREIGN: &str = "arn:aws:iam::444455556666:role/broker";
const PROVIDER: &str = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/ABC";
const ISSUER: &str = "oidc.eks.eu-west-1.amazonaws.com/id/ABC";
const TAGGED: [Action; 2] = [Action::AssumeRole, Action::TagSession];

fn eks() -> Caller {
    Caller::Service { name: "pods.eks.amazonaws.com".into() }
}

fn session(role: &str) -> Caller {
    Caller::Session { role: role.parse().unwrap(), name: "auth".into() }
}

fn user() -> Caller {
    Caller::User("arn:aws:iam::111122223333:user/ci/robot".parse().unwrap())
}

fn web() -> Caller {
    Caller::WebIdentity { provider: PROVIDER.into() }
}

/// A policy of 2012 with these statements.
fn policy(statements: &Value) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

/// A case: a trust policy and what of the caller's own goes with it.
#[derive(Clone)]
struct Case {
    trust: String,
    identity: Vec<Policy>,
    session: Option<Vec<Policy>>,
    context: Vec<(&'static str, Vec<&'static str>)>,
}

fn trust(statements: &Value) -> Case {
    Case { trust: policy(statements), identity: vec![], session: None, context: vec![] }
}

impl Case {
    fn identity(mut self, statements: &Value) -> Self {
        self.identity.push(Policy::identity(&policy(statements)).unwrap());
        self
    }

    fn session(mut self, statements: &Value) -> Self {
        self.session.get_or_insert_default().push(Policy::identity(&policy(statements)).unwrap());
        self
    }

    fn with(mut self, key: &'static str, values: &[&'static str]) -> Self {
        self.context.push((key, values.to_vec()));
        self
    }

    fn decide(&self, caller: &Caller, actions: &[Action]) -> Decision {
        let role: RoleArn = ROLE.parse().unwrap();
        let mut context = Context::of(caller);
        for (key, values) in &self.context {
            context.set_all(key, values.iter().copied());
        }
        let permissions = Permissions { identity: &self.identity, session: self.session.as_deref() };
        let request = Request { caller, role: &role, context: &context };
        decide(&Policy::trust(&self.trust).unwrap(), &permissions, actions, &request)
    }

    #[track_caller]
    fn allows(&self, caller: &Caller, actions: &[Action]) {
        let decision = self.decide(caller, actions);
        assert!(decision.is_allowed(), "{decision}");
    }

    #[track_caller]
    fn denies(&self, caller: &Caller, actions: &[Action], code: &str) -> Denial {
        let decision = self.decide(caller, actions);
        let denial = decision.denial().expect("it was allowed");
        assert_eq!(denial.code(), code, "{denial}");
        denial.clone()
    }
}

fn allow(principal: &Value, actions: &Value) -> Value {
    json!({"Effect": "Allow", "Principal": principal, "Action": actions})
}

fn conditional(condition: &Value) -> Case {
    let mut statement = allow(&json!({"Service": "pods.eks.amazonaws.com"}), &json!("sts:AssumeRole"));
    statement["Condition"] = condition.clone();
    trust(&statement)
}

#[test]
fn the_trust_policy_that_eks_documents_lets_its_service_assume_and_tag() {
    let documented = trust(&json!([{
        "Sid": "AllowEksAuthToAssumeRoleForPodIdentity",
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"]
    }]));
    documented.allows(&eks(), &TAGGED);
    let other = Caller::Service { name: "ec2.amazonaws.com".into() };
    let denial = documented.denies(&other, &TAGGED, "trust_no_statement");
    assert_eq!(denial.statement().unwrap().misses[0].code(), "principal");
    documented.denies(&session(BROKER), &TAGGED, "trust_no_statement");
    documented.denies(&eks(), &[Action::SetSourceIdentity], "trust_no_statement");
}

#[test]
fn a_target_role_asks_for_its_tags_and_for_its_first_role() {
    let target = trust(&json!({
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::444455556666:root"},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {
            "StringEquals": {
                "aws:RequestTag/eks-cluster-arn": "arn:aws:eks:eu-west-1:444455556666:cluster/prod",
                "aws:RequestTag/kubernetes-namespace": ["shop", "billing"]
            },
            "ArnEquals": {"aws:PrincipalARN": FOREIGN}
        }
    }))
    .identity(&json!({"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Resource": ROLE}))
    .with("aws:RequestTag/eks-cluster-arn", &["arn:aws:eks:eu-west-1:444455556666:cluster/prod"]);
    let shop = target.clone().with("aws:requesttag/KUBERNETES-namespace", &["shop"]);
    shop.allows(&session(FOREIGN), &TAGGED);
    shop.denies(&session("arn:aws:iam::444455556666:role/other"), &TAGGED, "trust_no_statement");
    let denial = target.denies(&session(FOREIGN), &TAGGED, "trust_no_statement");
    assert_eq!(
        denial.statement().unwrap().misses,
        [Miss::Condition {
            key: "aws:RequestTag/kubernetes-namespace".into(),
            operator: "StringEquals".into(),
            wanted: vec!["shop".into(), "billing".into()],
            actual: None,
        }]
    );
    assert_eq!(
        denial.to_string(),
        "arn:aws:sts::444455556666:assumed-role/broker/auth may not use sts:AssumeRole on \
         arn:aws:iam::111122223333:role/app: no statement of the role's trust policy allows it; statement 1 \
         comes nearest, but StringEquals wants aws:RequestTag/kubernetes-namespace to match \"shop\" or \
         \"billing\" and the request has none"
    );
}

#[test]
fn an_external_id_must_be_the_wanted_one() {
    let with_id = || conditional(&json!({"StringEquals": {"sts:ExternalId": "eu-west-1/1/prod/shop/web"}}));
    with_id().with("sts:ExternalId", &["eu-west-1/1/prod/shop/web"]).allows(&eks(), &[Action::AssumeRole]);
    with_id().with("sts:ExternalId", &["other"]).denies(&eks(), &[Action::AssumeRole], "trust_no_statement");
    with_id().denies(&eks(), &[Action::AssumeRole], "trust_no_statement");
}

#[test]
fn a_web_identity_is_held_to_its_subject_and_audience() {
    let subject = |operator: &str, wanted: &str| {
        let mut statement = allow(&json!({"Federated": PROVIDER}), &json!("sts:AssumeRoleWithWebIdentity"));
        statement["Condition"] = json!({"StringEquals": {format!("{ISSUER}:aud"): "sts.amazonaws.com"}});
        statement["Condition"][operator][format!("{ISSUER}:sub")] = json!(wanted);
        trust(&statement)
            .with("oidc.eks.eu-west-1.amazonaws.com/id/abc:SUB", &["system:serviceaccount:shop:web"])
            .with("oidc.eks.eu-west-1.amazonaws.com/id/ABC:aud", &["sts.amazonaws.com"])
    };
    let actions = [Action::AssumeRoleWithWebIdentity];
    subject("StringEquals", "system:serviceaccount:shop:web").allows(&web(), &actions);
    subject("StringLike", "system:serviceaccount:shop:*").allows(&web(), &actions);
    for (operator, wanted) in [
        ("StringEquals", "system:serviceaccount:shop:*"),
        ("StringEquals", "system:serviceaccount:shop:Web"),
        ("StringLike", "system:serviceaccount:bill*:*"),
    ] {
        subject(operator, wanted).denies(&web(), &actions, "trust_no_statement");
    }
    let elsewhere = Caller::WebIdentity { provider: PROVIDER.replace("1111", "9999") };
    subject("StringLike", "*").denies(&elsewhere, &actions, "trust_no_statement");
}

#[test]
fn a_role_or_user_of_the_same_account_needs_no_policy_of_its_own() {
    let named = trust(&allow(
        &json!({"AWS": [BROKER, "arn:aws:iam::111122223333:user/ci/robot"]}),
        &json!("sts:AssumeRole"),
    ));
    named.allows(&session(BROKER), &[Action::AssumeRole]);
    named.allows(&user(), &[Action::AssumeRole]);
    named.denies(&session(FOREIGN), &[Action::AssumeRole], "trust_no_statement");
    let by_session = "arn:aws:sts::111122223333:assumed-role/broker/auth";
    let by_session = trust(&allow(&json!({"AWS": by_session}), &json!("sts:AssumeRole")));
    by_session.allows(&session(BROKER), &[Action::AssumeRole]);
    let other = Caller::Session { role: BROKER.parse().unwrap(), name: "other".into() };
    by_session.denies(&other, &[Action::AssumeRole], "trust_no_statement");
}

#[test]
fn an_account_everyone_and_a_foreign_role_leave_it_to_the_callers_own_policies() {
    let permitted = json!({"Effect": "Allow", "Action": "sts:Assume*", "Resource": "arn:aws:iam::*:role/a*"});
    for (principal, caller) in [
        (json!({"AWS": "111122223333"}), session(BROKER)),
        (json!({"AWS": "arn:aws:iam::111122223333:root"}), user()),
        (json!("*"), session(BROKER)),
        (json!({"AWS": "*"}), session(FOREIGN)),
        (json!({"AWS": FOREIGN}), session(FOREIGN)),
        (json!({"AWS": "arn:aws:sts::444455556666:assumed-role/broker/auth"}), session(FOREIGN)),
    ] {
        let case = || trust(&allow(&principal, &json!("sts:*")));
        case().denies(&caller, &[Action::AssumeRole], "identity_policy_missing");
        case().identity(&permitted).allows(&caller, &[Action::AssumeRole]);
        let denial = case().identity(&permitted).denies(&caller, &TAGGED, "identity_policy_missing");
        assert_eq!(denial.action, Action::TagSession);
        assert_eq!(denial.statement().unwrap().misses[0].code(), "action");
    }
    trust(&allow(&json!({"AWS": "444455556666"}), &json!("sts:*"))).identity(&permitted).denies(
        &session(BROKER),
        &[Action::AssumeRole],
        "trust_no_statement",
    );
    let elsewhere =
        json!({"Effect": "Allow", "Action": "sts:*", "Resource": "arn:aws:iam::111122223333:role/b*"});
    let denial = trust(&allow(&json!("*"), &json!("sts:*"))).identity(&elsewhere).denies(
        &session(BROKER),
        &[Action::AssumeRole],
        "identity_policy_missing",
    );
    assert_eq!(denial.statement().unwrap().misses[0].code(), "resource");
}

#[test]
fn parts_that_a_resource_lacks_stand_for_anything() {
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
        let decision = case.decide(&session(BROKER), &[Action::AssumeRole]);
        assert_eq!(decision.is_allowed(), holds, "{resource}");
    }
}

#[test]
fn the_root_user_a_service_and_a_web_identity_need_the_trust_policy_alone() {
    let root = Caller::Root { partition: "aws".parse().unwrap(), account: "111122223333".parse().unwrap() };
    trust(&allow(&json!({"AWS": "111122223333"}), &json!("sts:*"))).allows(&root, &TAGGED);
    trust(&allow(&json!("*"), &json!("sts:*"))).allows(&eks(), &TAGGED);
    trust(&allow(&json!("*"), &json!("sts:*"))).allows(&web(), &[Action::AssumeRoleWithWebIdentity]);
}

#[test]
fn a_denial_wins_wherever_it_stands() {
    let named = allow(&json!({"AWS": BROKER}), &json!("sts:*"));
    let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "sts:TagSession"});
    for statements in [json!([named, deny]), json!([deny, named])] {
        trust(&statements).allows(&session(BROKER), &[Action::AssumeRole]);
        trust(&statements).denies(&session(BROKER), &TAGGED, "trust_explicit_deny");
    }
    let denied = json!({"Sid": "Never", "Effect": "Deny", "Action": "sts:tagsession", "NotResource": "arn:aws:iam::1*:role/b"});
    let denial = trust(&named).identity(&denied).denies(&session(BROKER), &TAGGED, "identity_explicit_deny");
    assert!(denial.to_string().ends_with("statement 1 (Never) of the caller's own policy denies it"));
}

#[test]
fn a_session_policy_only_takes_away() {
    let named = || trust(&allow(&json!({"AWS": BROKER}), &json!("sts:*")));
    let s3 = json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"});
    let all = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    named().session(&s3).denies(&session(BROKER), &TAGGED, "session_policy_missing");
    named().session(&s3).session(&all).allows(&session(BROKER), &TAGGED);
    let denies = json!({"Effect": "Deny", "Action": "sts:*", "Resource": "*"});
    named().session(&all).session(&denies).denies(&session(BROKER), &TAGGED, "session_explicit_deny");
    // A session that is named by its own ARN is not limited by what its policy leaves out.
    let by_session = "arn:aws:sts::111122223333:assumed-role/broker/auth";
    trust(&allow(&json!({"AWS": by_session}), &json!("sts:*")))
        .session(&s3)
        .allows(&session(BROKER), &TAGGED);
    trust(&allow(&json!("*"), &json!("sts:*"))).session(&all).denies(
        &session(BROKER),
        &TAGGED,
        "identity_policy_missing",
    );
}

#[test]
fn not_action_turns_the_actions_round() {
    let all_but_tags = trust(&json!({
        "Effect": "Allow", "Principal": {"AWS": BROKER}, "NotAction": ["sts:Tag*", "STS:setsourceidentity"]
    }));
    all_but_tags.allows(&session(BROKER), &[Action::AssumeRole]);
    all_but_tags.denies(&session(BROKER), &TAGGED, "trust_no_statement");
    all_but_tags.denies(&session(BROKER), &[Action::SetSourceIdentity], "trust_no_statement");
}

#[test]
fn the_nearest_statement_is_the_one_about_this_caller() {
    let statements = json!([
        allow(&json!({"Service": "pods.eks.amazonaws.com"}), &json!(["sts:AssumeRole", "sts:TagSession"])),
        allow(&json!({"AWS": BROKER}), &json!("sts:AssumeRole")),
    ]);
    let denial = trust(&statements).denies(&session(BROKER), &TAGGED, "trust_no_statement");
    let nearest = denial.statement().unwrap();
    assert_eq!((nearest.statement.index, nearest.misses[0].code()), (1, "action"));
    assert_eq!(denial.action, Action::TagSession);
}

#[test]
fn operators_compare_as_they_say() {
    // operator, wanted, what the request has, whether it holds
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
fn sets_of_values_are_compared_as_their_prefix_says() {
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
fn several_values_are_alternatives_and_several_conditions_must_all_hold() {
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

/// Statements over a small vocabulary, so that they often meet the same request.
fn statement() -> impl Strategy<Value = Value> {
    let principals = prop_oneof![
        Just(json!("*")),
        Just(json!({"AWS": BROKER})),
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
    prop_oneof![Just(eks()), Just(session(BROKER)), Just(session(FOREIGN)), Just(user())]
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
    fn a_further_denial_never_allows(
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
    fn the_order_of_statements_does_not_matter(
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
