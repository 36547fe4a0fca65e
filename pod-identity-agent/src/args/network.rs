//! The flags about the node's network.

#[cfg(target_os = "linux")]
use std::net::IpAddr;

use clap::Args;

#[cfg(target_os = "linux")]
use crate::initialize::Action;
use crate::network::OffNodeAction;

/// The flags of `server` about the node's network.
#[derive(Debug, Clone, Args)]
pub struct NetworkFlags {
    /// Treatment of requests from outside this node: warn (serve, log and count), refuse (answer 403) or off. A peer is
    /// outside if the route to it leaves by a device with a default route. Do not refuse where the pods' own replies
    /// leave by such a device: ipvlan, macvlan, or a bridge that has the node's uplink as a port.
    #[arg(long, value_name = "ACTION", default_value = "warn")]
    pub off_node: OffNodeAction,
}

/// The flags of `initialize`.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Args)]
pub struct InitializeArgs {
    /// The addresses to add.
    #[arg(
        long,
        short = 'b',
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "169.254.170.23,fd00:ec2::23"
    )]
    pub bind_hosts: Vec<IpAddr>,

    /// Change nothing. The exit status is 0 if everything is in place, and 1 otherwise. It needs no capability.
    #[arg(long, conflicts_with = "delete")]
    pub check: bool,

    /// Remove everything that initialize added, and nothing else.
    #[arg(long)]
    pub delete: bool,
}

#[cfg(target_os = "linux")]
impl InitializeArgs {
    /// Returns the operation that the flags select.
    pub fn action(&self) -> Action {
        match (self.check, self.delete) {
            (true, _) => Action::Check,
            (_, true) => Action::Delete,
            _ => Action::Add,
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    #[test]
    fn accepts_the_init_command_line_of_the_aws_chart() {
        let runner = "/go-runner /eks-pod-identity-agent initialize -v trace".split(' ').map(Into::into);
        let args = Args::try_parse_from(pod_identity_runtime::process::command_line(runner)).unwrap();
        let Command::Initialize(args) = args.command else { panic!() };
        assert_eq!(args.action(), Action::Add);
        let hosts: [IpAddr; 2] = ["169.254.170.23".parse().unwrap(), "fd00:ec2::23".parse().unwrap()];
        assert_eq!(args.bind_hosts, hosts);
    }

    #[test]
    fn check_and_delete_exclude_each_other() {
        let parse = |flags: &[&str]| Args::try_parse_from([&["agent", "initialize"], flags].concat());
        assert!(parse(&["--check", "--delete"]).is_err());
        let Command::Initialize(args) = parse(&["--delete", "-b", "198.18.0.1"]).unwrap().command else {
            panic!()
        };
        assert_eq!((args.action(), args.bind_hosts.len()), (Action::Delete, 1));
    }

    #[test]
    fn off_node_is_warn_by_default() {
        let parse = |flags: &[&str]| {
            Args::try_parse_from([&["agent", "server", "--cluster-name", "demo"], flags].concat())
        };
        for (flags, expected) in [
            (&[][..], OffNodeAction::Warn),
            (&["--off-node", "refuse"], OffNodeAction::Refuse),
            (&["--off-node=off"], OffNodeAction::Off),
        ] {
            let Command::Server(args) = parse(flags).unwrap().command else { panic!() };
            assert_eq!(args.network.off_node, expected);
        }
        assert!(parse(&["--off-node=block"]).is_err());
    }
}
