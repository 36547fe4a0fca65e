//! Warnings about associations whose sessions are likely too large for STS.

use pod_identity_core::association::{Association, AssociationTable};
use pod_identity_core::identity::{Pod, WorkloadIdentity};
use pod_identity_core::session::{SessionName, SessionPlan};

/// Maximum number of associations with a warning of their own. The others are counted.
const NAMED: usize = 10;

/// The suffix that a Deployment and a ReplicaSet add to a pod's name: `-` and 10, `-` and 5 characters.
const GENERATED: &str = "-5d59d67564-7nqhx";

/// Warns about each association whose tags and policy are likely too large. It refuses none, because the size is an
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
        tracing::warn!(
            associations = large,
            "STS will likely refuse the sessions of this number of associations as too large"
        );
    }
}

/// Returns a pod with the name that a Deployment with the service account's name would generate.
fn typical_pod(association: &Association) -> Option<WorkloadIdentity> {
    // Generated names are cut to 63 characters (kubernetes `names.SimpleNameGenerator`).
    let service_account = association.service_account.as_str();
    let base = &service_account[..service_account.len().min(63 - GENERATED.len())];
    // A cut name may end with `.` or `-`, and no `-` may follow them.
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
    fn makes_a_typical_pod_for_every_service_account_name() {
        for separator in [".", "-", "--"] {
            for before in 1..60 {
                let service_account = format!("{}{separator}{}", "a".repeat(before), "b".repeat(60));
                let association = Association::new(
                    "a-0123456789abcdefg".parse().unwrap(),
                    "shop".parse().unwrap(),
                    service_account.parse().unwrap(),
                    "arn:aws:iam::111122223333:role/app".parse().unwrap(),
                );
                let pod = typical_pod(&association).map(|identity| identity.pod.name);
                let name = pod.as_ref().map_or("", |name| name.as_str());
                let whole = name.ends_with(GENERATED) && (61..=63).contains(&name.len());
                assert!(whole, "{service_account}: {name:?}");
            }
        }
    }
}
