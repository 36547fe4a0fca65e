//! Associations whose sessions STS will likely find too large, told when they are read.

use pod_identity_core::association::{Association, AssociationTable};
use pod_identity_core::identity::{Pod, WorkloadIdentity};
use pod_identity_core::session::{SessionName, SessionPlan};

/// How many associations are named; of the others only the number.
const NAMED: usize = 10;

/// What a ReplicaSet and a Deployment add to a pod's name: `-` and 10, `-` and 5 characters.
const GENERATED: &str = "-5d59d67564-7nqhx";

/// Warns of each association whose tags and policy will likely not fit. Nothing is refused for an
/// estimate.
pub(crate) fn warn_of_large_sessions(table: &AssociationTable) {
    let mut large: usize = 0;
    for (cluster, association) in table.iter() {
        let Some(identity) = typical_pod(association) else { continue };
        let name = SessionName::for_pod(&cluster.name, &identity.pod, identity.pod.uid.as_str());
        let size = SessionPlan::new(cluster, association, &identity, name).packed_size();
        if !size.is_likely_too_large() {
            continue;
        }
        large += 1;
        if large <= NAMED {
            tracing::warn!(
                cluster = %cluster.name,
                association = %association.id,
                %size,
                "STS will likely refuse this association's sessions as too large: shorten its names or its \
                 policy, or disable its session tags"
            );
        }
    }
    if large > NAMED {
        tracing::warn!(associations = large, "so many associations will likely be refused as too large");
    }
}

/// A pod of an association as a Deployment of the service account's name would have it: pods are not known
/// before they come.
fn typical_pod(association: &Association) -> Option<WorkloadIdentity> {
    // Generated names are cut to 63 characters (kubernetes `names.SimpleNameGenerator`).
    let account = association.service_account.as_str();
    let base = &account[..account.len().min(63 - GENERATED.len())];
    // A cut may leave a name that ends with a label's end, where no `-` may follow.
    let name = format!("{}{GENERATED}", base.trim_end_matches(['.', '-']));
    let uid = "00000000-0000-0000-0000-000000000000";
    Some(WorkloadIdentity {
        issuer: String::new(),
        namespace: association.namespace.clone(),
        service_account: association.service_account.clone(),
        service_account_uid: uid.parse().ok()?,
        pod: Pod { name: name.parse().ok()?, uid: uid.parse().ok()? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_account_has_a_typical_pod_wherever_its_name_is_cut() {
        for separator in [".", "-", "--"] {
            for before in 1..60 {
                let account = format!("{}{separator}{}", "a".repeat(before), "b".repeat(60));
                let association = Association::new(
                    "a-0123456789abcdefg".parse().unwrap(),
                    "shop".parse().unwrap(),
                    account.parse().unwrap(),
                    "arn:aws:iam::111122223333:role/app".parse().unwrap(),
                );
                let pod = typical_pod(&association).map(|identity| identity.pod.name);
                let name = pod.as_ref().map_or("", |name| name.as_str());
                let whole = name.ends_with(GENERATED) && (61..=63).contains(&name.len());
                assert!(whole, "{account}: {name:?}");
            }
        }
    }
}
