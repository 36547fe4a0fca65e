//! AWS's clients in other languages: boto3, the AWS CLI, and the SDKs for JavaScript, Go and Java.
//!
//! [`Python::ready`], [`Node::ready`], [`Go::ready`] and [`Java::ready`] install pinned versions on first use, below the workspace's `target/tools`. If the
//! language is missing, they print a notice and return `None`. Under `CI=true` they panic instead.
//!
//! A program does not inherit the environment of the tests. It gets `PATH`, an empty `HOME`, and the variables of the test.
//!
//! ```no_run
//! # use testing::sdk::Python;
//! let Some(python) = Python::ready() else { return };
//! let env = [("AWS_REGION", "eu-west-1"), ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:4000/")];
//! let answer = python.script("boto3_get_caller_identity.py", &[], &env).json();
//! assert!(answer["arn"].is_string());
//! ```

mod run;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::install::{self, Manifest, Unavailable};
use crate::skip::or_skip;
pub use run::{Output, Running};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sdk");

/// Python with boto3, botocore and the AWS CLI of `sdk/python/requirements.txt`.
#[derive(Debug, Clone)]
pub struct Python {
    root: PathBuf,
}

impl Python {
    /// Returns an installation. If Python is unavailable, prints a notice on standard error and returns `None`.
    ///
    /// # Panics
    ///
    /// If Python is unavailable under `CI=true`.
    pub fn ready() -> Option<Self> {
        static READY: OnceLock<Option<Python>> = OnceLock::new();
        READY.get_or_init(|| or_skip("Python with AWS's SDK", Self::install(&install::tools()))).clone()
    }

    /// Installs Python's packages below `tools`.
    fn install(tools: &Path) -> Result<Self, Unavailable> {
        // The oldest version that boto3 1.44 supports (its Requires-Python).
        let version = install::version("python3", "Python ", (3, 10))?;
        let requirements = Path::new(SOURCES).join("python/requirements.txt");
        let manifest = Manifest { kind: "python", files: &[requirements], program_version: &version };
        let root = manifest.install(tools, |root| {
            install::run(Command::new("python3").args(["-m", "venv"]).arg(root))?;
            install::run(
                Command::new(root.join("bin/python"))
                    .args([
                        "-m",
                        "pip",
                        "install",
                        "--quiet",
                        "--disable-pip-version-check",
                        "--require-hashes",
                    ])
                    .arg("--requirement")
                    .arg(&manifest.files[0]),
            )
        })?;
        Ok(Self { root })
    }

    /// Runs a script of `sdk/python` to its end.
    pub fn script(&self, name: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
        self.start(name, args, env).finish()
    }

    /// Starts a script of `sdk/python` and does not wait for its end.
    pub fn start(&self, name: &str, args: &[&str], env: &[(&str, &str)]) -> Running {
        let mut command = self.command();
        command.arg(Path::new(SOURCES).join("python").join(name)).args(args);
        Running::start(command, env, run::home())
    }

    /// Runs `aws` with these arguments to its end.
    pub fn aws_cli(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = self.command();
        // Not `bin/aws`, whose first line contains the staging directory of the installation.
        command.args(["-m", "awscli"]).args(args);
        Running::start(command, env, run::home()).finish()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.root.join("bin/python"));
        command.arg("-B"); // write no __pycache__ into the source directory
        command
    }

    /// Returns a shell command that resolves credentials with boto3 in a pod.
    pub fn credentials_in_pod(&self) -> String {
        let script = Path::new(SOURCES).join("python/boto3_credentials.py");
        format!("{} -B {}", self.root.join("bin/python").display(), script.display())
    }

    /// Returns a shell command that calls GetCallerIdentity with the AWS CLI in a pod. Version 1 cannot print credentials.
    pub fn aws_cli_in_pod(&self) -> String {
        format!("{} -B -m awscli sts get-caller-identity", self.root.join("bin/python").display())
    }

    /// Returns the directory of the Python that the installation uses. A pod needs it.
    ///
    /// # Panics
    ///
    /// If Python cannot be started.
    pub fn base_directory(&self) -> PathBuf {
        let mut python = self.command();
        python.args(["-c", "import sys; print(sys.base_prefix)"]);
        install::output_of(&mut python).unwrap_or_else(|error| panic!("python: {error}")).trim().into()
    }
}

/// Node.js with the AWS SDK for JavaScript of `sdk/js/package.json`.
#[derive(Debug, Clone)]
pub struct Node {
    root: PathBuf,
}

impl Node {
    /// Returns an installation. If Node.js is unavailable, prints a notice on standard error and returns `None`.
    ///
    /// # Panics
    ///
    /// If Node.js is unavailable under `CI=true`.
    pub fn ready() -> Option<Self> {
        static READY: OnceLock<Option<Node>> = OnceLock::new();
        READY.get_or_init(|| or_skip("Node.js with AWS's SDK", Self::install(&install::tools()))).clone()
    }

    /// Installs Node's packages below `tools`.
    fn install(tools: &Path) -> Result<Self, Unavailable> {
        // The oldest version that the SDK supports (`engines` in its package.json).
        let version = install::version("node", "v", (20, 0))?;
        let sources = Path::new(SOURCES).join("js");
        let files = ["package.json", "package-lock.json"].map(|name| sources.join(name));
        let manifest = Manifest { kind: "node", files: &files, program_version: &version };
        let root = manifest.install(tools, |root| {
            for file in &files {
                install::copy_into(file, root)?;
            }
            let quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
            install::run(Command::new("npm").arg("ci").args(quiet).current_dir(root))
        })?;
        Ok(Self { root })
    }

    /// Runs a script of `sdk/js` to its end.
    pub fn script(&self, name: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
        self.start(name, args, env).finish()
    }

    /// Starts a script of `sdk/js` and does not wait for its end.
    ///
    /// # Panics
    ///
    /// If the scripts cannot be copied.
    pub fn start(&self, name: &str, args: &[&str], env: &[(&str, &str)]) -> Running {
        let home = run::home();
        // Node finds modules only in `node_modules` beside the script or above it.
        run::link_scripts(&Path::new(SOURCES).join("js"), &self.root.join("node_modules"), home.path())
            .unwrap_or_else(|error| panic!("cannot copy the scripts to {}: {error}", home.path().display()));
        let mut command = Command::new("node");
        command.arg(home.path().join(name)).args(args);
        Running::start(command, env, home)
    }
}

impl Node {
    /// Returns a shell command that resolves credentials with the default chain in a pod.
    pub fn credentials_in_pod(&self) -> String {
        // Node finds modules only in `node_modules` beside the script or above it.
        let script = Path::new(SOURCES).join("js/credentials.mjs");
        let modules = self.root.join("node_modules");
        format!(
            "mkdir /tmp/js && cp {} /tmp/js && ln -s {} /tmp/js && exec node /tmp/js/credentials.mjs",
            script.display(),
            modules.display()
        )
    }
}

/// A program with AWS's SDK for Go, of `sdk/go`.
#[derive(Debug, Clone)]
pub struct Go {
    root: PathBuf,
}

impl Go {
    /// Returns the program. If Go is unavailable, prints a notice on standard error and returns `None`.
    ///
    /// # Panics
    ///
    /// If Go is unavailable under `CI=true`.
    pub fn ready() -> Option<Self> {
        static READY: OnceLock<Option<Go>> = OnceLock::new();
        READY.get_or_init(|| or_skip("Go with AWS's SDK", Self::install(&install::tools()))).clone()
    }

    fn install(tools: &Path) -> Result<Self, Unavailable> {
        let sources = Path::new(SOURCES).join("go");
        let go = |arguments: &[&str]| {
            let mut go = Command::new("go");
            go.args(arguments).current_dir(&sources).env("GOWORK", "off").env("CGO_ENABLED", "0");
            go
        };
        let version = install::output_of(&mut go(&["env", "GOVERSION"]))?;
        let files = ["go.mod", "go.sum", "main.go"].map(|name| sources.join(name));
        let manifest = Manifest { kind: "go-sdk", files: &files, program_version: &version };
        let root = manifest.install(tools, |root| {
            let mut build = go(&["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]);
            install::run(build.arg(root.join("credentials")).env("GOCACHE", tools.join("go-build")))
        })?;
        Ok(Self { root })
    }

    /// Returns a shell command that resolves credentials with the default chain in a pod.
    pub fn credentials_in_pod(&self) -> String {
        self.root.join("credentials").display().to_string()
    }
}

/// A program with AWS's SDK for Java 2, of `sdk/java`.
#[derive(Debug, Clone)]
pub struct Java {
    root: PathBuf,
}

impl Java {
    /// Returns the program. If a JDK or Maven is unavailable, prints a notice on standard error and returns `None`.
    ///
    /// # Panics
    ///
    /// If one of them is unavailable under `CI=true`.
    pub fn ready() -> Option<Self> {
        static READY: OnceLock<Option<Java>> = OnceLock::new();
        READY.get_or_init(|| or_skip("Java with AWS's SDK", Self::install(&install::tools()))).clone()
    }

    fn install(tools: &Path) -> Result<Self, Unavailable> {
        let sources = Path::new(SOURCES).join("java");
        let version = install::version("javac", "javac ", (17, 0))?;
        let files = ["pom.xml", "Credentials.java"].map(|name| sources.join(name));
        let manifest = Manifest { kind: "java-sdk", files: &files, program_version: &version };
        let root = manifest.install(tools, |root| {
            install::copy_into(&files[0], root)?;
            let mut maven = Command::new("mvn");
            maven.args([
                "--batch-mode",
                "--quiet",
                "dependency:copy-dependencies",
                "-DoutputDirectory=libraries",
            ]);
            install::run(maven.current_dir(root))?;
            let mut javac = Command::new("javac");
            javac.args(["-d", ".", "-cp", "libraries/*"]).arg(&files[1]);
            install::run(javac.current_dir(root))
        })?;
        Ok(Self { root })
    }

    /// Returns a shell command that resolves credentials with the default chain in a pod.
    pub fn credentials_in_pod(&self) -> String {
        let root = self.root.display();
        format!("java -cp '{root}:{root}/libraries/*' Credentials")
    }

    /// Returns the directories of the JDK and of its configuration. A pod needs them.
    ///
    /// # Panics
    ///
    /// If Java cannot be started.
    pub fn base_directories(&self) -> Vec<PathBuf> {
        let mut java = Command::new("java");
        java.args(["-XshowSettings:properties", "-version"]);
        let output = java.output().unwrap_or_else(|error| panic!("java: {error}"));
        let text = String::from_utf8_lossy(&output.stderr);
        let home = text.lines().find_map(|line| line.trim().strip_prefix("java.home = "));
        let home = PathBuf::from(home.unwrap_or_else(|| panic!("java prints no java.home: {text}")));
        // Debian's JDK has links to files below /etc.
        let security = std::fs::canonicalize(home.join("conf/security/java.security"));
        let configuration = security.ok().and_then(|file| Some(file.parent()?.parent()?.to_owned()));
        let outside = configuration.filter(|directory| !directory.starts_with(&home));
        std::iter::once(home).chain(outside).collect()
    }
}

#[cfg(test)]
mod tests;
