//! etcd and kube-apiserver, built from their sources on first use: Go modules with pinned versions and
//! checked sums (`cluster/*/go.mod`, `go.sum`), below the workspace's `target/tools`.
//!
//! Their projects publish programs and images as well, but not where a package manager verifies them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SOURCES;
use crate::install::{self, Manifest, Unavailable};

/// A module below `cluster`, and what of it is built.
struct Module {
    name: &'static str,
    /// Programs with their packages.
    programs: &'static [(&'static str, &'static str)],
}

/// Two, since etcd and Kubernetes want different versions of what both are made of.
const MODULES: [Module; 2] = [
    Module { name: "etcd", programs: &[("etcd", "go.etcd.io/etcd/server/v3")] },
    Module { name: "kubernetes", programs: &[("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver")] },
];

/// `PATH`, with the programs on it.
pub(super) fn path() -> Result<OsString, Unavailable> {
    let tools = install::tools();
    let mut directories = vec![];
    for module in MODULES {
        directories.push(module.install(&tools)?);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    directories.extend(std::env::split_paths(&path));
    std::env::join_paths(directories).map_err(|error| Unavailable::because(format!("PATH: {error}")))
}

impl Module {
    fn install(&self, tools: &Path) -> Result<PathBuf, Unavailable> {
        let source = Path::new(SOURCES).join(self.name);
        let go = |arguments: &[&str]| {
            let mut go = Command::new("go");
            go.args(arguments).current_dir(&source).env("GOWORK", "off");
            go
        };
        // Asked there: the Go that is installed gets the one that the module asks for.
        let version = install::said(&mut go(&["env", "GOVERSION"]))?;
        let files = ["go.mod", "go.sum"].map(|name| source.join(name));
        let manifest = Manifest { kind: self.name, files: &files, program: &version };
        manifest.install(tools, |root| {
            let modules = install::said(&mut go(&["list", "-m", "-f", "{{.Path}} {{.Version}}", "all"]))?;
            let link = link_flags(&modules);
            for (program, package) in self.programs {
                install::run(
                    go(&["build", "-trimpath", "-buildvcs=false", "-ldflags", &link, "-o"])
                        .args([&root.join(program), Path::new(package)])
                        .env("GOCACHE", tools.join("go-build")) // not the user's: it is more than a gigabyte
                        .env("CGO_ENABLED", "0"),
                )?;
            }
            Ok(())
        })
    }
}

/// Without symbols, and with Kubernetes' own version, which its build puts there too.
fn link_flags(modules: &str) -> String {
    let version = modules.lines().find_map(|line| line.strip_prefix("k8s.io/kubernetes "));
    let version = version.map(|version| format!(" -X k8s.io/component-base/version.gitVersion={version}"));
    format!("-s -w{}", version.unwrap_or_default())
}
