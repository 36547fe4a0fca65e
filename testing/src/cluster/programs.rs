//! The programs of Kubernetes, built from source on first use, below the workspace's `target/tools`. The Go modules have
//! pinned versions and checksums (`cluster/*/go.mod`, `go.sum`).
//!
//! The published binaries are not used, because no package manager verifies them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SOURCES;
use crate::install::{self, Manifest, Unavailable};

/// Programs of a Go module below `cluster`. They are built together.
pub(crate) struct Module {
    /// Name of the installation.
    name: &'static str,
    /// Directory below `cluster`.
    directory: &'static str,
    /// Names of programs, each with its package.
    programs: &'static [(&'static str, &'static str)],
}

/// Two modules, because etcd and Kubernetes need different versions of shared dependencies.
pub(crate) const CONTROL_PLANE: &[Module] = &[
    Module { name: "etcd", directory: "etcd", programs: &[("etcd", "go.etcd.io/etcd/server/v3")] },
    Module {
        name: "kubernetes",
        directory: "kubernetes",
        programs: &[("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver")],
    },
];

/// Programs of a node. An installation of its own, because most tests need only the control plane.
pub(crate) const NODE: &[Module] = &[
    Module {
        name: "kubernetes-node",
        directory: "kubernetes",
        programs: &[
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
            ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ],
    },
    Module { name: "coredns", directory: "coredns", programs: &[("coredns", ".")] },
];

/// Builds the programs if necessary. Returns `PATH` with their directories in front.
pub(crate) fn path<'a>(modules: impl IntoIterator<Item = &'a Module>) -> Result<OsString, Unavailable> {
    let tools = install::tools();
    let mut directories = vec![];
    for module in modules {
        directories.push(module.install(&tools)?);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    directories.extend(std::env::split_paths(&path));
    std::env::join_paths(directories).map_err(|error| Unavailable::because(format!("PATH: {error}")))
}

impl Module {
    fn install(&self, tools: &Path) -> Result<PathBuf, Unavailable> {
        let source = Path::new(SOURCES).join(self.directory);
        let go = |arguments: &[&str]| {
            let mut go = Command::new("go");
            go.args(arguments).current_dir(&source).env("GOWORK", "off");
            go
        };
        // Inside the module, `go` switches to the toolchain version of its `go.mod`.
        let version = install::output_of(&mut go(&["env", "GOVERSION"]))?;
        let mut files: Vec<_> = ["go.mod", "go.sum", "main.go"].map(|name| source.join(name)).into();
        files.retain(|file| file.exists());
        let manifest = Manifest { kind: self.name, files: &files, program_version: &version };
        manifest.install(tools, |root| {
            let modules =
                install::output_of(&mut go(&["list", "-m", "-f", "{{.Path}} {{.Version}}", "all"]))?;
            let link = link_flags(&modules);
            for (program, package) in self.programs {
                install::run(
                    go(&["build", "-trimpath", "-buildvcs=false", "-ldflags", &link, "-o"])
                        .args([&root.join(program), Path::new(package)])
                        .env("GOCACHE", tools.join("go-build")) // more than a gigabyte, so not in the user's cache
                        .env("CGO_ENABLED", "0"),
                )?;
            }
            Ok(())
        })
    }
}

/// Returns flags that strip symbols and set Kubernetes's version, as its own build does.
fn link_flags(modules: &str) -> String {
    let version = modules.lines().find_map(|line| line.strip_prefix("k8s.io/kubernetes "));
    let version = version.map(|version| format!(" -X k8s.io/component-base/version.gitVersion={version}"));
    format!("-s -w{}", version.unwrap_or_default())
}
