//! Tests of decisions, with a small language for the cases.

use serde_json::{Value, json};

use super::*;
use crate::arn::RoleArn;

mod conditions;
mod grammar;
mod permissions;
mod properties;
mod statements;

const ROLE: &str = "arn:aws:iam::111122223333:role/app";
const AUTH: &str = "arn:aws:iam::111122223333:role/system/auth";
const FOREIGN: &str = "arn:aws:iam::444455556666:role/auth";
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

/// A test case: a trust policy, and the policies and condition keys of the caller.
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
