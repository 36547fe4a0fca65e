//! Installing once, whoever comes first, and never half.

use std::fmt;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::say;

/// Why a language's clients cannot be had.
#[derive(Debug)]
pub(super) struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an installation is made of: other files or another program, another installation.
pub(super) struct Manifest<'a> {
    pub(super) kind: &'static str,
    pub(super) files: &'a [PathBuf],
    pub(super) program: &'a str,
}

impl Manifest<'_> {
    /// The directory of this installation, made by `install` when nobody has made it yet.
    ///
    /// Other processes and threads wait meanwhile. An installation is made beside its place and moved
    /// there when it is whole, so that one that was interrupted is never found.
    pub(super) fn install(
        &self,
        tools: &Path,
        install: impl FnOnce(&Path) -> Result<(), Unavailable>,
    ) -> Result<PathBuf, Unavailable> {
        let name = format!("{}-{:016x}", self.kind, self.digest()?);
        let place = tools.join(&name);
        if place.is_dir() {
            return Ok(place);
        }
        fs::create_dir_all(tools).map_err(|error| cannot("create", tools, &error))?;
        let lock_file = tools.join(format!("{name}.lock"));
        // Unlocked when it is closed, so by a killed process too.
        let lock = File::create(&lock_file).map_err(|error| cannot("create", &lock_file, &error))?;
        lock.lock().map_err(|error| cannot("lock", &lock_file, &error))?;
        if place.is_dir() {
            return Ok(place);
        }
        let draft = tools.join(format!("{name}.draft"));
        if draft.exists() {
            fs::remove_dir_all(&draft).map_err(|error| cannot("remove", &draft, &error))?;
        }
        say(&format!("installing AWS's clients for {} into {} (once)", self.kind, place.display()));
        fs::create_dir(&draft).map_err(|error| cannot("create", &draft, &error))?;
        install(&draft)?;
        fs::rename(&draft, &place).map_err(|error| cannot("move", &draft, &error))?;
        say(&format!("installed AWS's clients for {}", self.kind));
        Ok(place)
    }

    /// Another Rust may hash otherwise: that installs once more, and harms nobody.
    fn digest(&self) -> Result<u64, Unavailable> {
        let mut hasher = DefaultHasher::new();
        self.program.hash(&mut hasher);
        for file in self.files {
            fs::read(file).map_err(|error| cannot("read", file, &error))?.hash(&mut hasher);
        }
        Ok(hasher.finish())
    }
}

/// `target/tools`, where cargo puts what it makes.
pub(super) fn tools() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace.join(target).join("tools")
}

/// What a program says of its version, when it is at least `oldest`.
pub(super) fn version(program: &str, prefix: &str, oldest: (u32, u32)) -> Result<String, Unavailable> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| Unavailable(format!("{program} cannot be started: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let mut numbers = text.strip_prefix(prefix).unwrap_or_default().split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= oldest => Ok(text),
        _ => {
            let (major, minor) = oldest;
            Err(Unavailable(format!("{program} has to be {major}.{minor} or newer, and says {text:?}")))
        }
    }
}

/// Runs an installer to its end, with the environment of the tests: a proxy or a registry may be
/// configured there.
pub(super) fn run(command: &mut Command) -> Result<(), Unavailable> {
    let output = command.output();
    let failed = |what: String| Unavailable(format!("{command:?} {what}"));
    match output {
        Err(error) => Err(failed(format!("cannot be started: {error}"))),
        Ok(output) if !output.status.success() => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            Err(failed(format!("failed ({}): {}", output.status, stderr.trim())))
        }
        Ok(_) => Ok(()),
    }
}

pub(super) fn copy_into(file: &Path, directory: &Path) -> Result<(), Unavailable> {
    let place = directory.join(file.file_name().unwrap_or_default());
    fs::copy(file, &place).map(drop).map_err(|error| cannot("write", &place, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Unavailable {
    Unavailable(format!("cannot {what} {}: {error}", path.display()))
}
