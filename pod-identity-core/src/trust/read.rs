//! The parser of policies (*Grammar of the IAM JSON policy language*), with the elements that each type of policy may
//! have.

use super::action::{Action, Effect};
use super::condition::{self, Condition};
use super::document::{Node, object};
use super::error::PolicyError;
use super::principal::Principal;
use super::statement::{Patterns, Statement};

/// The type of a policy, which determines its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Trust,
    Identity,
}

/// Reads the statements of a policy.
pub(super) fn statements(root: &Node, kind: Kind) -> Result<Vec<Statement>, PolicyError> {
    let mut variables = false;
    let mut statements = None;
    for (name, value) in object("", root)? {
        match name.as_str() {
            "Version" => match text(name, value)? {
                "2012-10-17" => variables = true,
                "2008-10-17" => {}
                other => {
                    return Err(PolicyError::form(
                        name,
                        format!("{other:?} is neither \"2012-10-17\" nor \"2008-10-17\""),
                    ));
                }
            },
            "Id" => {
                text(name, value)?;
            }
            "Statement" => statements = Some(value),
            _ => return Err(unknown("", name)),
        }
    }
    let statements = statements.ok_or_else(|| missing("", "Statement"))?;
    // A single statement may be an object in place of a list. Its position is the same in both forms.
    let nodes = match statements {
        Node::List(nodes) if nodes.is_empty() => {
            return Err(PolicyError::form("Statement", "the list is empty, want a statement"));
        }
        Node::List(nodes) => nodes.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut read: Vec<Statement> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let place = format!("Statement[{index}]");
        let statement = statement(&place, node, kind, variables)?;
        if statement.sid.is_some() && read.iter().any(|earlier| earlier.sid == statement.sid) {
            return Err(PolicyError::form(
                &format!("{place}.Sid"),
                "another statement of the policy has the same Sid",
            ));
        }
        read.push(statement);
    }
    Ok(read)
}

fn statement(place: &str, node: &Node, kind: Kind, variables: bool) -> Result<Statement, PolicyError> {
    let (mut sid, mut effect, mut principals, mut actions, mut resources, mut conditions) =
        (None, None, None, None, None, None);
    for (name, value) in object(place, node)? {
        let place = &format!("{place}.{name}");
        match (name.as_str(), kind) {
            ("Sid", _) => sid = read_sid(place, value)?,
            ("Effect", _) => {
                effect = Some(match text(place, value)? {
                    "Allow" => Effect::Allow,
                    "Deny" => Effect::Deny,
                    other => {
                        return Err(PolicyError::form(
                            place,
                            format!("{other:?} is neither \"Allow\" nor \"Deny\""),
                        ));
                    }
                });
            }
            ("Principal", Kind::Trust) => principals = Some(read_principals(place, value)?),
            ("NotPrincipal", Kind::Trust) => {
                return Err(PolicyError::form(place, "not allowed in a trust policy"));
            }
            ("Principal" | "NotPrincipal", Kind::Identity) => {
                return Err(PolicyError::form(
                    place,
                    "not allowed in an identity policy, whose principal is its user or role",
                ));
            }
            ("Action" | "NotAction", _) => {
                let patterns = patterns(place, value, name == "NotAction")?;
                for text in &patterns.texts {
                    check_action(place, text, kind)?;
                }
                once(place, &mut actions, patterns, "Action and NotAction exclude each other")?;
            }
            ("Resource" | "NotResource", Kind::Trust) => {
                return Err(PolicyError::form(
                    place,
                    "not allowed in a trust policy, whose resource is its role",
                ));
            }
            ("Resource" | "NotResource", Kind::Identity) => {
                let patterns = patterns(place, value, name == "NotResource")?;
                if let Some(text) =
                    patterns.texts.iter().find(|text| *text != "*" && !text.starts_with("arn:"))
                {
                    return Err(PolicyError::form(place, format!("{text:?} is neither \"*\" nor an ARN")));
                }
                once(place, &mut resources, patterns, "Resource and NotResource exclude each other")?;
            }
            ("Condition", _) => conditions = Some(value),
            _ => return Err(unknown(place.strip_suffix(&format!(".{name}")).unwrap_or_default(), name)),
        }
    }
    let effect = effect.ok_or_else(|| missing(place, "Effect"))?;
    let actions = actions.ok_or_else(|| missing(place, "Action"))?;
    match kind {
        Kind::Trust if principals.is_none() => return Err(missing(place, "Principal")),
        Kind::Identity if resources.is_none() => return Err(missing(place, "Resource")),
        _ => {}
    }
    // A statement about other actions decides nothing here, so it may have unsupported parts.
    let decides = kind == Kind::Trust || Action::ALL.iter().any(|action| actions.fit_action(*action));
    let resource_texts = resources.iter().flat_map(|patterns: &Patterns| &patterns.texts);
    if let Some(text) = resource_texts.filter(|_| variables && decides).find(|text| text.contains("${")) {
        return Err(condition::variable(&format!("{place}.Resource"), text));
    }
    let conditions: Vec<Condition> = match conditions {
        Some(node) => condition::read(&format!("{place}.Condition"), node, variables, decides)?,
        None => Vec::new(),
    };
    Ok(Statement { sid, effect, principals, actions, resources, conditions })
}

fn read_sid(place: &str, value: &Node) -> Result<Option<String>, PolicyError> {
    let sid = text(place, value)?;
    if !sid.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(PolicyError::form(
            place,
            format!("{sid:?} has characters other than letters and digits"),
        ));
    }
    Ok((!sid.is_empty()).then(|| sid.to_owned()))
}

fn read_principals(place: &str, value: &Node) -> Result<Vec<Principal>, PolicyError> {
    let Node::Map(entries) = value else {
        if *value == Node::Text("*".to_owned()) {
            return Ok(vec![Principal::Everyone]);
        }
        return Err(PolicyError::form(place, "neither \"*\" nor an object with AWS, Service or Federated"));
    };
    let mut named = Vec::new();
    for (kind, value) in entries {
        let place = &format!("{place}.{kind}");
        let parse = match kind.as_str() {
            "AWS" => Principal::aws,
            "Service" => Principal::service,
            "Federated" => Principal::federated,
            "CanonicalUser" => {
                return Err(PolicyError::form(place, "only Amazon S3 supports canonical users"));
            }
            _ => return Err(PolicyError::form(place, "want AWS, Service or Federated")),
        };
        for text in texts(place, value)? {
            named.push(parse(text).ok_or_else(|| {
                PolicyError::form(
                    place,
                    format!(
                        "{text:?} is not a principal of this type; it must not contain a wildcard or end in '/'"
                    ),
                )
            })?);
        }
    }
    if named.is_empty() {
        return Err(PolicyError::form(place, "the list is empty"));
    }
    Ok(named)
}

/// Checks for `*` or `service:Name` with wildcards in the name. A trust policy may only have STS actions. IAM's error
/// for others is "AssumeRole policy may only specify STS AssumeRole actions".
fn check_action(place: &str, text: &str, kind: Kind) -> Result<(), PolicyError> {
    if text == "*" {
        return Ok(());
    }
    let Some((service, name)) = text.split_once(':') else {
        return Err(PolicyError::form(
            place,
            format!("{text:?} has no service prefix, as in sts:AssumeRole"),
        ));
    };
    let word = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    if !word(service, b"-") || !word(name, b"*?") {
        return Err(PolicyError::form(place, format!("{text:?} is not an action like sts:AssumeRole")));
    }
    if kind == Kind::Trust && !service.eq_ignore_ascii_case("sts") {
        return Err(PolicyError::form(
            place,
            format!("{text:?} is not an action of STS, want only STS actions in a trust policy"),
        ));
    }
    Ok(())
}

fn patterns(place: &str, value: &Node, inverted: bool) -> Result<Patterns, PolicyError> {
    let texts: Vec<String> = texts(place, value)?.into_iter().map(str::to_owned).collect();
    if texts.is_empty() {
        return Err(PolicyError::form(place, "the list is empty"));
    }
    Ok(Patterns { texts, inverted })
}

fn once<T>(place: &str, slot: &mut Option<T>, value: T, problem: &str) -> Result<(), PolicyError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(PolicyError::form(place, problem)),
    }
}

fn text<'n>(place: &str, node: &'n Node) -> Result<&'n str, PolicyError> {
    match node {
        Node::Text(text) => Ok(text),
        other => Err(PolicyError::form(place, format!("is {}, want a string", other.kind()))),
    }
}

/// Reads a list of strings, or a single string.
fn texts<'n>(place: &str, node: &'n Node) -> Result<Vec<&'n str>, PolicyError> {
    match node {
        Node::List(items) => items.iter().map(|item| text(place, item)).collect(),
        one => Ok(vec![text(place, one)?]),
    }
}

fn missing(place: &str, element: &str) -> PolicyError {
    PolicyError::form(place, format!("the element {element} is missing"))
}

fn unknown(place: &str, element: &str) -> PolicyError {
    PolicyError::form(place, format!("{element:?} is not an element of a policy"))
}
