//! Installing once, whoever comes first, and never half.

use std::fmt;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::left_out::say;

/// Why something cannot be had.
#[derive(Debug)]
pub(crate) struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Unavailable {
    #[cfg(feature = "cluster")]
    pub(crate) fn because(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// What an installation is made of: other files or another program, another installation.
pub(crate) struct Manifest<'a> {
    pub(crate) kind: &'static str,
    pub(crate) files: &'a [PathBuf],
    pub(crate) program: &'a str,
}

impl Manifest<'_> {
    /// The directory of this installation, made by `install` when nobody has made it yet.
    ///
    /// Other processes and threads wait meanwhile. An installation is made beside its place and moved
    /// there when it is whole, so that one that was interrupted is never found.
    pub(crate) fn install(
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
        say(&format!("installing {} into {} (once)", self.kind, place.display()));
        fs::create_dir(&draft).map_err(|error| cannot("create", &draft, &error))?;
        install(&draft)?;
        fs::rename(&draft, &place).map_err(|error| cannot("move", &draft, &error))?;
        say(&format!("installed {}", self.kind));
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
pub(crate) fn tools() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace.join(target).join("tools")
}

/// What a program says of its version, when it is at least `oldest`.
pub(crate) fn version(program: &str, prefix: &str, oldest: (u32, u32)) -> Result<String, Unavailable> {
    let text = said(Command::new(program).arg("--version"))?;
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
pub(crate) fn run(command: &mut Command) -> Result<(), Unavailable> {
    said(command).map(drop)
}

/// As [`run`], and what it printed.
pub(crate) fn said(command: &mut Command) -> Result<String, Unavailable> {
    let output = command.output().map_err(|error| {
        Unavailable(format!("{} cannot be started: {error}", command.get_program().display()))
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Unavailable(format!("{command:?} failed ({}): {}", output.status, stderr.trim())))
}

pub(crate) fn copy_into(file: &Path, directory: &Path) -> Result<(), Unavailable> {
    let place = directory.join(file.file_name().unwrap_or_default());
    fs::copy(file, &place).map(drop).map_err(|error| cannot("write", &place, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Unavailable {
    Unavailable(format!("cannot {what} {}: {error}", path.display()))
}
