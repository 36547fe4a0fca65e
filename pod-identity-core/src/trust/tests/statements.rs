//! Callers that the statements of a trust policy allow.

use serde_json::{Value, json};

use super::*;

#[test]
fn trust_policy_of_eks_documentation_allows_its_service_to_assume_and_tag() {
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
    documented.denies(&session(AUTH), &TAGGED, "trust_no_statement");
    documented.denies(&eks(), &[Action::SetSourceIdentity], "trust_no_statement");
}

#[test]
fn target_role_requires_its_tags_and_its_first_role() {
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
        "arn:aws:sts::444455556666:assumed-role/auth/auth may not use sts:AssumeRole on \
         arn:aws:iam::111122223333:role/app: no statement of the role's trust policy allows it; statement 1 \
         comes nearest, but StringEquals wants aws:RequestTag/kubernetes-namespace to match \"shop\" or \
         \"billing\" and the request has none"
    );
}

#[test]
fn external_id_must_match() {
    let with_id = || conditional(&json!({"StringEquals": {"sts:ExternalId": "eu-west-1/1/prod/shop/web"}}));
    with_id().with("sts:ExternalId", &["eu-west-1/1/prod/shop/web"]).allows(&eks(), &[Action::AssumeRole]);
    with_id().with("sts:ExternalId", &["other"]).denies(&eks(), &[Action::AssumeRole], "trust_no_statement");
    with_id().denies(&eks(), &[Action::AssumeRole], "trust_no_statement");
}

#[test]
fn web_identity_must_match_subject_and_audience() {
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

/// The denial has all mismatches, so that one round of corrections is enough.
#[test]
fn denial_lists_all_mismatches_of_the_nearest_statement() {
    let mut statement = allow(&json!({"AWS": AUTH}), &json!("sts:AssumeRole"));
    statement["Condition"] = json!({"StringEquals": {"sts:ExternalId": "a"}});
    let denial = trust(&statement).denies(&session(AUTH), &[Action::TagSession], "trust_no_statement");
    assert!(
        denial.to_string().ends_with(
            "statement 1 comes nearest, but its actions are for sts:AssumeRole; and \
             StringEquals wants sts:ExternalId to match \"a\" and the request has none"
        ),
        "{denial}"
    );
    let mut statement = allow(&json!({"AWS": [AUTH, "444455556666"]}), &json!("sts:AssumeRole"));
    statement.as_object_mut().unwrap().remove("Action");
    statement["NotAction"] = json!("sts:*");
    let denial = trust(&statement).denies(&user(), &[Action::AssumeRole], "trust_no_statement");
    assert_eq!(
        denial.statement().unwrap().misses,
        [
            Miss::Principal { wanted: vec![AUTH.into(), "444455556666".into()], actual: user().to_string() },
            Miss::Action { wanted: vec!["all but sts:*".into()], actual: Action::AssumeRole },
        ]
    );
}

#[test]
fn decision_is_displayed_as_its_denial_or_as_allowed() {
    let case = trust(&allow(&json!({"AWS": AUTH}), &json!("sts:AssumeRole")));
    assert_eq!(case.decide(&session(AUTH), &[Action::AssumeRole]).to_string(), "allowed");
    let denied = case.decide(&user(), &[Action::AssumeRole]);
    assert_eq!(denied.to_string(), denied.denial().unwrap().to_string());
    assert!(
        denied.to_string().starts_with("arn:aws:iam::111122223333:user/ci/robot may not use sts:AssumeRole")
    );
}

#[test]
fn tags_of_request_and_caller_are_condition_keys() {
    let wants = |condition: Value| {
        let mut statement = allow(&json!({"AWS": AUTH}), &json!("sts:AssumeRole"));
        statement["Condition"] = condition;
        let trust = Policy::trust(&policy(&statement)).unwrap();
        move |context: &Context| {
            let (caller, role) = (session(AUTH), ROLE.parse().unwrap());
            let request = Request { caller: &caller, role: &role, context };
            decide(&trust, &Permissions::default(), &[Action::AssumeRole], &request).is_allowed()
        }
    };
    let request = wants(json!({
        "StringEquals": {"aws:RequestTag/team": "shop"},
        "ForAllValues:StringEquals": {"aws:TagKeys": ["team", "stage"]},
        "Null": {"aws:TagKeys": "false"},
    }));
    let principal = wants(json!({"StringEquals": {"aws:PrincipalTag/team": "shop"}}));
    let mut tagged = Context::of(&session(AUTH));
    tagged.request_tags([("team", "shop"), ("stage", "test")]);
    assert!(request(&tagged) && !principal(&tagged));
    tagged.request_tags([("team", "shop"), ("other", "test")]);
    assert!(!request(&tagged), "a tag key that is not in the list");
    let mut tagged = Context::of(&session(AUTH));
    tagged.principal_tags([("team", "shop"), ("stage", "test")]);
    assert!(principal(&tagged) && !request(&tagged));
}

#[test]
fn not_action_inverts_the_actions() {
    let all_but_tags = trust(&json!({
        "Effect": "Allow", "Principal": {"AWS": AUTH}, "NotAction": ["sts:Tag*", "STS:setsourceidentity"]
    }));
    all_but_tags.allows(&session(AUTH), &[Action::AssumeRole]);
    all_but_tags.denies(&session(AUTH), &TAGGED, "trust_no_statement");
    all_but_tags.denies(&session(AUTH), &[Action::SetSourceIdentity], "trust_no_statement");
}

#[test]
fn nearest_statement_is_the_one_about_the_caller() {
    let statements = json!([
        allow(&json!({"Service": "pods.eks.amazonaws.com"}), &json!(["sts:AssumeRole", "sts:TagSession"])),
        allow(&json!({"AWS": AUTH}), &json!("sts:AssumeRole")),
    ]);
    let denial = trust(&statements).denies(&session(AUTH), &TAGGED, "trust_no_statement");
    let nearest = denial.statement().unwrap();
    assert_eq!((nearest.statement.index, nearest.misses[0].code()), (1, "action"));
    assert_eq!(denial.action, Action::TagSession);
}
