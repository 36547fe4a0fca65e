//! The capability `NET_BIND_SERVICE`, which binds port 80 without root.
//!
//! The binary's file carries `cap_net_bind_service+p`. The kernel then puts the capability into the permitted set of a
//! process without root, if the pod adds it, and the process raises it itself. With `+ep` the kernel would refuse to
//! start the program in a pod that does not add the capability, and nothing could say why.

use std::fmt;

/// Why the process may not bind a port below 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The pod does not add the capability.
    NotAdded,
    /// The program's file does not carry the capability.
    NotOnFile,
    /// The file carries the capability, but the process that started it could not pass it on.
    NotInherited,
    /// The file carries the capability, but its file system or user namespace ignores it.
    Ignored,
    /// The process has the capability.
    Other,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAdded => {
                "the container does not have the capability NET_BIND_SERVICE. Add it \
                 (securityContext.capabilities.add), or choose a --port of at least 1024"
            }
            Self::NotOnFile => {
                "the program's file does not carry the capability NET_BIND_SERVICE, and the program does not run as \
                 root. Set it (setcap cap_net_bind_service+p FILE), because copying a file can lose it, or run the \
                 container as root"
            }
            Self::NotInherited => {
                "no_new_privs is on, and the process that started the program does not have the capability \
                 NET_BIND_SERVICE. Start the program without a launcher or shell before it, or set \
                 allowPrivilegeEscalation to true"
            }
            Self::Ignored => {
                "the kernel ignores the capability NET_BIND_SERVICE of the program's file. Mount the file system \
                 without nosuid, and run the container in the node's user namespace (hostUsers: true)"
            }
            Self::Other => {
                "permission denied, although the process has the capability NET_BIND_SERVICE. Check the node's \
                 security module (SELinux, AppArmor)"
            }
        })
    }
}

/// The capabilities of a process, from `/proc/<pid>/status`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    permitted: bool,
    bounding: bool,
    no_new_privs: bool,
}

impl Status {
    fn parse(text: &str) -> Self {
        // include/uapi/linux/capability.h
        const NET_BIND_SERVICE: u32 = 10;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let has = |name: &str| {
            let set = field(name).and_then(|hex| u64::from_str_radix(hex, 16).ok());
            set.is_some_and(|set| set >> NET_BIND_SERVICE & 1 == 1)
        };
        Self {
            permitted: has("CapPrm:"),
            bounding: has("CapBnd:"),
            no_new_privs: field("NoNewPrivs:") == Some("1"),
        }
    }

    fn denied(&self, is_on_file: bool) -> Denied {
        match self {
            Self { permitted: true, .. } => Denied::Other,
            Self { bounding: false, .. } => Denied::NotAdded,
            _ if !is_on_file => Denied::NotOnFile,
            Self { no_new_privs: true, .. } => Denied::NotInherited,
            _ => Denied::Ignored,
        }
    }
}

impl Denied {
    /// Returns the cause for this process.
    pub(super) fn of_this_process() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Status::parse(&status).denied(process::file_has_capability())
    }
}

pub use process::{drop_raised, raise};

#[cfg(target_os = "linux")]
mod process {
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::process::geteuid;
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

    static RAISED: AtomicBool = AtomicBool::new(false);

    /// Raises `NET_BIND_SERVICE` of this thread, if it is permitted, and gives up every other capability. Threads that
    /// this thread starts inherit it. A process of root is not changed, because it may need its capabilities to read
    /// files.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn raise() -> io::Result<()> {
        if geteuid().is_root() {
            return Ok(());
        }
        let permitted = capabilities(None)?.permitted & CapabilitySet::NET_BIND_SERVICE;
        set_capabilities(None, only(permitted))?;
        RAISED.store(!permitted.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    /// Gives up the capability that [`raise`] raised, after every address is bound.
    pub fn drop_raised() {
        if RAISED.swap(false, Ordering::Relaxed)
            && let Err(error) = set_capabilities(None, only(CapabilitySet::empty()))
        {
            tracing::warn!(%error, "capability NET_BIND_SERVICE not given up");
        }
    }

    fn only(set: CapabilitySet) -> CapabilitySets {
        CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() }
    }

    pub(super) fn file_has_capability() -> bool {
        let mut value = [0_u8; 64];
        rustix::fs::getxattr("/proc/self/exe", "security.capability", &mut value[..]).is_ok()
    }
}

/// Other systems have no capabilities.
#[cfg(not(target_os = "linux"))]
mod process {
    use std::io;

    /// Does nothing.
    ///
    /// # Errors
    /// None.
    pub fn raise() -> io::Result<()> {
        Ok(())
    }

    /// Does nothing.
    pub fn drop_raised() {}

    pub(super) fn file_has_capability() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_follows_from_the_sets_and_the_file() {
        let text = |permitted: &str, bounding: &str, no_new_privs: &str| {
            format!("Name:\tagent\nCapPrm:\t{permitted}\nCapBnd:\t{bounding}\nNoNewPrivs:\t{no_new_privs}\n")
        };
        const NONE: &str = "0000000000000000";
        const BIND: &str = "0000000000000400";
        for (status, is_on_file, expected) in [
            (text(NONE, NONE, "0"), true, Denied::NotAdded),
            (text(NONE, NONE, "1"), false, Denied::NotAdded),
            (text(NONE, BIND, "1"), false, Denied::NotOnFile),
            (text(NONE, BIND, "1"), true, Denied::NotInherited),
            (text(NONE, "000001ffffffffff", "0"), true, Denied::Ignored),
            (text(BIND, BIND, "1"), true, Denied::Other),
            (String::new(), true, Denied::NotAdded),
        ] {
            assert_eq!(Status::parse(&status).denied(is_on_file), expected, "{status}");
        }
    }
}
