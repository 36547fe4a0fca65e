//! Properties of the process.

/// Forbids core dumps, and the reading of this process's memory by other processes of the same user
/// (`prctl(PR_SET_DUMPABLE, 0)`): the memory holds tokens and credentials. Linux only; elsewhere it does nothing.
pub fn forbid_dumps() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "core dumps not forbidden");
        }
    }
}
