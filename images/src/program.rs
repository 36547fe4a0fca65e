//! The programs and the names that they have in an image.

use clap::ValueEnum;

/// A program that has an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// The node agent.
    Agent,
    /// The auth service.
    Auth,
    /// The webhook.
    Webhook,
    /// The local services, as the AWS of a test cluster.
    Local,
}

/// `security.capability` with `cap_net_bind_service` in the permitted set: `VFS_CAP_REVISION_2`, then the words
/// permitted and inheritable of the low and the high capabilities (capabilities(7), *File capability extended attribute
/// versioning*). The agent raises the capability itself.
pub const NET_BIND_SERVICE: [u8; 20] = {
    let mut words = [0; 20];
    words[3] = 0x02; // 0x02000000, little-endian
    words[5] = 0x04; // 1 << 10
    words
};

impl Program {
    /// Returns the name of the crate, of the file in the image, and the default name of the image.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "pod-identity-agent",
            Self::Auth => "pod-identity-auth",
            Self::Webhook => "pod-identity-webhook",
            Self::Local => "pod-identity-local",
        }
    }

    /// Returns the name of the file that cargo builds.
    pub fn binary(self) -> &'static str {
        match self {
            Self::Agent => "eks-pod-identity-agent", // as AWS's
            other => other.name(),
        }
    }

    /// Returns further names in the image: those of AWS's images. `/go-runner` is the launcher of AWS's manifests.
    pub fn links(self) -> &'static [&'static str] {
        match self {
            Self::Agent => &["eks-pod-identity-agent", "go-runner"],
            Self::Webhook => &["webhook", "go-runner"],
            Self::Auth | Self::Local => &[],
        }
    }

    /// Returns the user of the image. The agent has none, as AWS's image, because AWS's chart expects root. Its own
    /// manifests set the user.
    pub fn user(self) -> Option<&'static str> {
        (self != Self::Agent).then_some("65532:65532")
    }

    /// Returns the value of `security.capability` of the program's file.
    pub fn capability(self) -> Option<&'static [u8]> {
        (self == Self::Agent).then_some(&NET_BIND_SERVICE)
    }
}
