//! `GetCallerIdentity`. It needs no permission.

use pod_identity_core::trust::Caller;

use super::caller::Principal;
use super::random::unique_id;
use super::xml::{self, Element};

pub(super) fn result(principal: &Principal) -> Vec<Element> {
    let (arn, user_id) = match &principal.caller {
        Caller::Session { role, name } => {
            (role.session(name), format!("{}:{name}", unique_id("AROA", role.as_str())))
        }
        Caller::User(user) => (user.to_string(), unique_id("AIDA", user.as_str())),
        // AWS services do not call this operation. The form of the ARN is this program's own.
        Caller::Service { name } => {
            (format!("arn:aws:iam::{}:service-principal/{name}", principal.account), name.clone())
        }
        other => (other.to_string(), principal.account.clone()),
    };
    vec![
        xml::text("Arn", arn),
        xml::text("UserId", user_id),
        xml::text("Account", principal.account.as_str()),
    ]
}
