//! Images of local files, without a registry. An image is one layer in the format of `docker save`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::install::{self, Unavailable};

/// An image with busybox as `/bin/busybox`, `/bin/sh` and all its other commands.
pub const BUSYBOX: &str = "localhost/busybox:test";

/// Writes the images that every node has: busybox, the pause image of pods, and CoreDNS.
pub(super) fn write_all(directory: &Path, path: &OsStr) -> Result<(), Unavailable> {
    let find = |program| {
        super::find(path, program).ok_or_else(|| Unavailable::because(format!("{program} is not in PATH")))
    };
    let (busybox, coredns) = (find("busybox")?, find("coredns")?);
    if install::run(Command::new("ldd").arg(&busybox)).is_ok() {
        let busybox = busybox.display();
        return Err(Unavailable::because(format!(
            "{busybox} needs libraries: apt-get install busybox-static"
        )));
    }
    fs::create_dir_all(directory).map_err(|error| failed("create", directory, &error))?;
    let commands = install::output_of(Command::new(&busybox).arg("--list"))?;
    let links: Vec<_> = commands.lines().filter(|&command| command != "busybox").collect();
    let shell = json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]});
    write(&directory.join("busybox.tar"), BUSYBOX, &shell, &[(&busybox, "/bin/busybox")], &links)?;
    let sleep = json!({"Entrypoint": ["/bin/busybox", "sleep", "infinity"]});
    let pause = "localhost/busybox:pause"; // containerd.toml
    write(&directory.join("pause.tar"), pause, &sleep, &[(&busybox, "/bin/busybox")], &[])?;
    let entrypoint = json!({"Entrypoint": ["/coredns"]});
    write(
        &directory.join("coredns.tar"),
        "localhost/coredns:test",
        &entrypoint,
        &[(&coredns, "/coredns")],
        &[],
    )
}

/// Writes an image of files, each with its path in the image, and of links in `/bin` to `/bin/busybox`.
pub(super) fn write(
    archive: &Path,
    reference: &str,
    config: &Value,
    files: &[(&Path, &str)],
    busybox_links: &[&str],
) -> Result<(), Unavailable> {
    let staging = tempfile::tempdir_in(archive.parent().unwrap_or(archive))
        .map_err(|error| failed("create", archive, &error))?;
    let (root, image) = (staging.path().join("root"), staging.path().join("image"));
    for directory in [&root.join("tmp"), &image] {
        fs::create_dir_all(directory).map_err(|error| failed("create", directory, &error))?;
    }
    for directory in [&root, &root.join("tmp")] {
        let mode = if directory.ends_with("tmp") { 0o1777 } else { 0o755 };
        fs::set_permissions(directory, fs::Permissions::from_mode(mode))
            .map_err(|error| failed("write", directory, &error))?;
    }
    for &(file, path) in files {
        let copy = root.join(path.trim_start_matches('/'));
        let directory = copy.parent().unwrap_or(&root);
        fs::create_dir_all(directory).map_err(|error| failed("create", directory, &error))?;
        fs::copy(file, &copy).map_err(|error| failed("copy", file, &error))?;
    }
    for link in busybox_links {
        let link = root.join("bin").join(link);
        symlink("busybox", &link).map_err(|error| failed("create", &link, &error))?;
    }
    tar(&image.join("layer.tar"), &root)?;
    let digest = install::output_of(Command::new("sha256sum").arg(image.join("layer.tar")))?;
    let digest = digest.split(' ').next().unwrap_or_default();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let layers = json!({"type": "layers", "diff_ids": [format!("sha256:{digest}")]});
    let description =
        json!({"architecture": architecture, "os": "linux", "config": config, "rootfs": layers});
    let manifest = json!([{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]);
    for (name, value) in [("config.json", &description), ("manifest.json", &manifest)] {
        let file = image.join(name);
        fs::write(&file, value.to_string()).map_err(|error| failed("write", &file, &error))?;
    }
    tar(archive, &image)
}

fn tar(archive: &Path, directory: &PathBuf) -> Result<(), Unavailable> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--numeric-owner", "--owner=0", "--group=0", "--transform=s,^\\./,,"]);
    install::run(tar.arg("--file").arg(archive).arg("--directory").arg(directory).arg("."))
}

fn failed(action: &str, path: &Path, error: &std::io::Error) -> Unavailable {
    Unavailable::because(format!("cannot {action} {}: {error}", path.display()))
}
