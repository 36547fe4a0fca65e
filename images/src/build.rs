//! From flags to an archive.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::archive::{self, Settings};
use crate::args::Args;
use crate::root::{Entry, RootError};
use crate::{layer, packages, root};

/// Error of making an image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file of the image cannot be used.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The list of packages cannot be made.
    #[error("list of packages: {0}")]
    Packages(String),
    /// Two programs have the same architecture.
    #[error("{}: the image has a program for {architecture} already: give one --binary for each architecture", .path.display())]
    Twice {
        /// The second program.
        path: PathBuf,
        /// Its architecture.
        architecture: &'static str,
    },
    /// A file cannot be written.
    #[error("{}: {reason}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: std::io::Error,
    },
}

/// Makes the image and returns a line about it.
///
/// # Errors
/// [`BuildError`] names the file.
pub fn run(args: &Args) -> Result<String, BuildError> {
    let program = args.program;
    let version = env!("CARGO_PKG_VERSION");
    let name = args.name.clone().unwrap_or_else(|| format!("{}:{version}", program.name()));
    let default = [Path::new("target/release").join(program.binary())];
    let binaries = if args.binary.is_empty() { &default[..] } else { &args.binary };
    let written = |path: &Path| {
        let path = path.to_owned();
        move |reason| BuildError::Write { path, reason }
    };
    let mut layers = Vec::new();
    for binary in binaries {
        let (architecture, mut root) = root::collect(program, binary, &args.ca_bundle)?;
        if layers.iter().any(|(other, _)| *other == architecture) {
            let architecture = architecture.name();
            return Err(BuildError::Twice { path: binary.clone(), architecture });
        }
        let list = packages::list(program.name(), architecture).map_err(BuildError::Packages)?;
        let content = format!("{list:#}\n").into_bytes();
        if let Some(path) = args.sbom.as_deref().filter(|_| layers.is_empty()) {
            std::fs::write(path, &content).map_err(written(path))?;
        }
        root.insert(
            format!("usr/share/doc/{}/packages.cdx.json", program.name()),
            Entry::File { content, executable: false, capability: None },
        );
        layers.push((architecture, layer::tar(&root).map_err(written(&args.output))?));
    }
    let names: Vec<&str> = layers.iter().map(|(architecture, _)| architecture.name()).collect();
    let report = format!("{}: {name} for {}", args.output.display(), names.join(" and "));
    let settings = Settings {
        name,
        entrypoint: format!("/{}", program.name()),
        user: program.user(),
        labels: labels(args, version),
    };
    let archive = archive::write(&settings, layers).map_err(written(&args.output))?;
    std::fs::write(&args.output, &archive).map_err(written(&args.output))?;
    Ok(format!("{report}, {:.1} MB", archive.len() as f64 / 1e6))
}

fn labels(args: &Args, version: &str) -> Map<String, Value> {
    let labels = [
        ("title", Some(args.program.name())),
        ("version", Some(version)),
        ("licenses", Some("Apache-2.0")),
        ("revision", args.revision.as_deref()),
        ("source", args.source.as_deref()),
    ];
    let given = labels.into_iter().filter_map(|(name, value)| Some((name, value?)));
    given.map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.into())).collect()
}
