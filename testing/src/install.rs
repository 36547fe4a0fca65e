//! Installation of tools, at most once and never partially.

use std::fmt;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip::print_past_harness;

/// The reason why a tool is unavailable.
#[derive(Debug)]
pub(crate) struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Unavailable {
    #[cfg(feature = "cluster")]
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// The inputs of an installation. Changed files or another version of the program give a new installation.
pub(crate) struct Manifest<'a> {
    pub(crate) kind: &'static str,
    pub(crate) files: &'a [PathBuf],
    pub(crate) program_version: &'a str,
}

impl Manifest<'_> {
    /// Returns the directory of the installation. If it does not exist, calls `install` with a staging directory, which is
    /// renamed when it is complete. An interrupted installation is therefore never used.
    ///
    /// Other processes and threads wait for the end of the installation.
    pub(crate) fn install(
        &self,
        tools: &Path,
        install: impl FnOnce(&Path) -> Result<(), Unavailable>,
    ) -> Result<PathBuf, Unavailable> {
        let name = format!("{}-{:016x}", self.kind, self.digest()?);
        let directory = tools.join(&name);
        if directory.is_dir() {
            return Ok(directory);
        }
        fs::create_dir_all(tools).map_err(|error| failed_to("create", tools, &error))?;
        let lock_file = tools.join(format!("{name}.lock"));
        // The kernel releases the lock when the process ends, even if it is killed.
        let lock = File::create(&lock_file).map_err(|error| failed_to("create", &lock_file, &error))?;
        lock.lock().map_err(|error| failed_to("lock", &lock_file, &error))?;
        if directory.is_dir() {
            return Ok(directory);
        }
        let staging = tools.join(format!("{name}.staging"));
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(|error| failed_to("remove", &staging, &error))?;
        }
        print_past_harness(&format!("installing {} into {} (once)", self.kind, directory.display()));
        fs::create_dir(&staging).map_err(|error| failed_to("create", &staging, &error))?;
        install(&staging)?;
        fs::rename(&staging, &directory).map_err(|error| failed_to("move", &staging, &error))?;
        print_past_harness(&format!("installed {}", self.kind));
        Ok(directory)
    }

    /// Hashes the inputs. Another version of Rust may return another hash, which only causes a new installation.
    fn digest(&self) -> Result<u64, Unavailable> {
        let mut hasher = DefaultHasher::new();
        self.program_version.hash(&mut hasher);
        for file in self.files {
            fs::read(file).map_err(|error| failed_to("read", file, &error))?.hash(&mut hasher);
        }
        Ok(hasher.finish())
    }
}

/// Returns the directory `tools` inside cargo's target directory.
pub(crate) fn tools() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace().join(target).join("tools")
}

/// Returns the workspace's directory.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Returns the output of `program --version`.
///
/// # Errors
/// If the program cannot be started, or its version is older than `oldest`.
pub(crate) fn version(program: &str, prefix: &str, oldest: (u32, u32)) -> Result<String, Unavailable> {
    let text = output_of(Command::new(program).arg("--version"))?;
    let mut numbers = text.strip_prefix(prefix).unwrap_or_default().split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= oldest => Ok(text),
        _ => {
            let (major, minor) = oldest;
            Err(Unavailable(format!("version of {program} is {text:?}, want {major}.{minor} or newer")))
        }
    }
}

/// Runs an installer to its end. It inherits the environment of the tests, which may configure a proxy or a registry.
pub(crate) fn run(command: &mut Command) -> Result<(), Unavailable> {
    output_of(command).map(drop)
}

/// Runs a program like [`run`], and returns its standard output.
pub(crate) fn output_of(command: &mut Command) -> Result<String, Unavailable> {
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
    let copy = directory.join(file.file_name().unwrap_or_default());
    fs::copy(file, &copy).map(drop).map_err(|error| failed_to("write", &copy, &error))
}

fn failed_to(action: &str, path: &Path, error: &io::Error) -> Unavailable {
    Unavailable(format!("cannot {action} {}: {error}", path.display()))
}
