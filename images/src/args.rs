//! Command line.

use std::path::PathBuf;

use clap::Parser;

use crate::program::Program;

/// Make the container image of one program, without a container engine.
#[derive(Debug, Parser)]
#[command(name = "images", version)]
pub struct Args {
    /// The program.
    #[arg(value_enum)]
    pub program: Program,

    /// The program's ELF file. Give one file for each architecture. Default: target/release/PROGRAM.
    #[arg(long, value_name = "FILE")]
    pub binary: Vec<PathBuf>,

    /// The archive to write.
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: PathBuf,

    /// The image's name and tag. Default: PROGRAM:VERSION.
    #[arg(long, value_name = "NAME:TAG", value_parser = tagged)]
    pub name: Option<String>,

    /// The CA certificates of the image, in PEM.
    #[arg(long, value_name = "FILE", default_value = crate::root::CA_BUNDLE)]
    pub ca_bundle: PathBuf,

    /// The commit, for the label org.opencontainers.image.revision. Default: no label.
    #[arg(long, value_name = "COMMIT")]
    pub revision: Option<String>,

    /// The repository's URL, for the label org.opencontainers.image.source. Default: no label.
    #[arg(long, value_name = "URL")]
    pub source: Option<String>,

    /// Also write the list of packages (CycloneDX) to this file.
    #[arg(long, value_name = "FILE")]
    pub sbom: Option<PathBuf>,
}

/// Refuses a name without a tag, because index.json needs the tag alone. The colon of a registry's port begins no tag.
fn tagged(name: &str) -> Result<String, String> {
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((image, tag)) if !image.is_empty() && !tag.is_empty() => Ok(name.to_owned()),
        _ => Err(format!("{name:?} has no tag, want NAME:TAG, for example pod-identity-agent:0.1.0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_needs_a_tag() {
        for name in ["agent:1", "host:5000/team/agent:1"] {
            assert_eq!(tagged(name).as_deref(), Ok(name));
        }
        for name in ["", "agent", "agent:", ":1", "host:5000/agent", "host/:1"] {
            assert!(tagged(name).unwrap_err().contains("want NAME:TAG"), "{name:?}");
        }
    }
}
