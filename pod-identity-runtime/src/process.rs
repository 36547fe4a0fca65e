//! Properties of the process.

/// Forbids core dumps, and reading this process's memory from other processes of the same user
/// (`prctl(PR_SET_DUMPABLE, 0)`), because the memory contains tokens and credentials. It has an effect only on Linux.
pub fn forbid_dumps() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "core dumps not forbidden");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn process_is_not_dumpable() {
        super::forbid_dumps();
        let behavior = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(behavior, rustix::process::DumpableBehavior::NotDumpable);
    }
}
