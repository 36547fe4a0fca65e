//! The process: its command line and its properties.

use std::ffi::OsString;
use std::path::Path;

/// Returns the command line without a leading `go-runner`. AWS's manifests start `/go-runner /program ...`, and in the
/// images of this project both are links to the program.
///
/// ```
/// use pod_identity_runtime::process::command_line;
///
/// let arguments = ["/go-runner", "/eks-pod-identity-agent", "server"].map(Into::into);
/// assert_eq!(command_line(arguments.into_iter()).collect::<Vec<_>>(), ["/eks-pod-identity-agent", "server"]);
/// ```
pub fn command_line(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut arguments = arguments.peekable();
    let is_runner =
        |program: &mut OsString| Path::new(program).file_name().is_some_and(|name| name == "go-runner");
    if arguments.peek_mut().is_some_and(is_runner) {
        arguments.next();
    }
    arguments
}

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
