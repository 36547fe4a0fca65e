//! etcd and kube-apiserver, built from source on first use, below the workspace's `target/tools`. The Go modules have
//! pinned versions and checksums (`cluster/*/go.mod`, `go.sum`).
//!
//! The published binaries are not used, because no package manager verifies them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SOURCES;
use crate::install::{self, Manifest, Unavailable};

/// A Go module below `cluster`, with the programs to build.
struct Module {
    name: &'static str,
    /// Names of programs, each with its package.
    programs: &'static [(&'static str, &'static str)],
}

/// Two modules, because etcd and Kubernetes need different versions of shared dependencies.
const MODULES: [Module; 2] = [
    Module { name: "etcd", programs: &[("etcd", "go.etcd.io/etcd/server/v3")] },
    Module { name: "kubernetes", programs: &[("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver")] },
];

/// Builds the programs if necessary. Returns `PATH` with their directories in front.
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
        // Inside the module, `go` switches to the toolchain version of its `go.mod`.
        let version = install::output_of(&mut go(&["env", "GOVERSION"]))?;
        let files = ["go.mod", "go.sum"].map(|name| source.join(name));
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
