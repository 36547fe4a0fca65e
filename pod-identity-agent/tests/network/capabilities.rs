//! Port 80 without root: the capabilities of a container and of the program's file. The steps are those of runc: bounding
//! set, permitted set, user, no_new_privs, execve.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{XattrFlags, setxattr};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs,
};
use testing::netns::{self, Namespace};
use testing::program::Program;

use crate::process::{PROGRAM, V4, ask, eventually, server};

const BIND: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;
const NONE: CapabilitySet = CapabilitySet::empty();
/// Needed until the user is changed.
const CHANGE_USER: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::SETPCAP);

/// The capability of a file: none, `+p` or `+ep` (include/uapi/linux/capability.h, `vfs_cap_data`).
#[derive(Debug, Clone, Copy)]
enum OnFile {
    Nothing,
    EffectivePermitted,
    Permitted,
}

fn copy(directory: &Path, on_file: OnFile) -> String {
    let file = directory.join(format!("agent-{on_file:?}"));
    std::fs::copy(PROGRAM, &file).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    let first: u32 = match on_file {
        OnFile::Nothing => return file.to_str().unwrap().to_owned(),
        OnFile::Permitted => 0x0200_0000,
        OnFile::EffectivePermitted => 0x0200_0001,
    };
    let value = [first, BIND.bits() as u32, 0, 0, 0].map(u32::to_le_bytes).concat();
    setxattr(&file, "security.capability", &value, XattrFlags::empty()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A container's security context.
#[derive(Debug, Clone, Copy)]
struct Container {
    is_root: bool,
    bounding: CapabilitySet,
    permitted: CapabilitySet,
    no_new_privs: bool,
    has_launcher: bool,
}

const ADDED: Container =
    Container { is_root: false, bounding: BIND, permitted: BIND, no_new_privs: true, has_launcher: false };

/// The end of a start.
#[derive(Debug)]
enum Start {
    /// The address is served; the capability sets of the process.
    Serves(String),
    /// The program ended with this log.
    Ended(String),
    /// The kernel did not start the program.
    NotStarted(io::Error),
}

fn start(node: &Namespace, program: &str, container: Container) -> Start {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (program, stderr) = (program.to_owned(), log.reopen().unwrap());
    let started = node.run(move || {
        for one in CapabilitySet::all().difference(container.bounding).iter() {
            // A kernel may not have the newest ones.
            let _ = remove_capability_from_bounding_set(one);
        }
        let before = container.permitted | CHANGE_USER;
        let sets = CapabilitySets { effective: before, permitted: before, inheritable: NONE };
        set_capabilities(None, sets).unwrap();
        set_keep_capabilities(true).unwrap();
        set_no_new_privs(container.no_new_privs).ok();
        let mut command = Command::new(if container.has_launcher { "/bin/sh" } else { &program });
        if container.has_launcher {
            command.args(["-c", "exec \"$0\" \"$@\"", &program]);
        }
        if !container.is_root {
            command.uid(65532).gid(65532);
        }
        command.args(server("--bind-hosts 169.254.170.23")).env_clear().env("NO_COLOR", "1");
        Program::start(command.env("AWS_REGION", "eu-west-1").stdin(Stdio::null()).stderr(stderr))
    });
    let mut program = match started.join().unwrap() {
        Ok(program) => program,
        Err(error) => return Start::NotStarted(error),
    };
    let text = || std::fs::read_to_string(log.path()).unwrap();
    let mut is_running = true;
    eventually("the agent serves or ends", || {
        is_running = program.is_running();
        !is_running || text().contains("serving credentials")
    });
    if !is_running {
        program.wait(Duration::from_secs(1));
        return Start::Ended(text());
    }
    assert_eq!(ask(node, V4).unwrap().1, "token_malformed");
    Start::Serves(std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap())
}

#[test]
fn binds_port_80_or_says_what_is_missing() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    node.ip("address add 169.254.170.23/32 dev lo\n").unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let files = [OnFile::Nothing, OnFile::EffectivePermitted, OnFile::Permitted];
    let files = files.map(|on_file| copy(directory.path(), on_file));
    const SERVES: &str = "";
    const NOT_STARTED: &str = "the kernel does not start the program";
    const NOT_ADDED: &str = "the container does not have the capability NET_BIND_SERVICE";
    const NOT_ON_FILE: &str = "the program's file does not carry the capability NET_BIND_SERVICE";
    const NOT_INHERITED: &str = "Start the program without a launcher";
    let nothing_added = Container { bounding: NONE, permitted: NONE, ..ADDED };
    for (container, expected) in [
        (ADDED, [NOT_ON_FILE, SERVES, SERVES]),
        (Container { no_new_privs: false, ..ADDED }, [NOT_ON_FILE, SERVES, SERVES]),
        (nothing_added, [NOT_ADDED, NOT_STARTED, NOT_ADDED]),
        (Container { permitted: NONE, ..ADDED }, [NOT_ON_FILE, NOT_INHERITED, NOT_INHERITED]),
        (Container { has_launcher: true, ..ADDED }, [NOT_ON_FILE, NOT_INHERITED, NOT_INHERITED]),
        (Container { is_root: true, ..ADDED }, [SERVES, SERVES, SERVES]),
    ] {
        for (file, expected) in files.iter().zip(expected) {
            match start(&node, file, container) {
                Start::Serves(status) => {
                    assert_eq!(expected, SERVES, "{file} {container:?}");
                    // It is given up after the last bind.
                    let is_given_up = status.contains("CapPrm:\t0000000000000000\n");
                    assert_eq!(is_given_up, !container.is_root, "{file} {container:?}: {status}");
                }
                Start::Ended(log) => {
                    assert!(expected != SERVES && log.contains(expected), "{file} {container:?}: {log}");
                }
                Start::NotStarted(error) => {
                    assert_eq!(expected, NOT_STARTED, "{file} {container:?}: {error}");
                    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                }
            }
        }
    }
}
