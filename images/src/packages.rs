//! The list of a program's packages in the format CycloneDX 1.5, for scanners, which cannot read them from the program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::elf::Architecture;

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Returns the list of a program's packages: the crates that cargo links into it, with the checksums of `Cargo.lock`.
/// Build scripts and procedural macros are not in the program and not in the list.
///
/// # Errors
/// A sentence about cargo or the lock file.
pub fn list(package: &str, architecture: Architecture) -> Result<Value, String> {
    let target = match architecture {
        Architecture::Amd64 => "x86_64-unknown-linux-gnu",
        Architecture::Arm64 => "aarch64-unknown-linux-gnu",
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(WORKSPACE);
    cargo.args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe"]);
    cargo.args(["--format", "{p}\t{l}", "--target", target, "--package", package]);
    let output = cargo.output().map_err(|error| format!("cargo tree cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let lock = Path::new(WORKSPACE).join("Cargo.lock");
    let lock = std::fs::read_to_string(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    document(package, &String::from_utf8_lossy(&output.stdout), &checksums(&lock))
}

type Checksums = BTreeMap<(String, String), String>;

/// Reads the checksums of a lock file by name and version.
fn checksums(lock: &str) -> Checksums {
    lock.split("[[package]]")
        .filter_map(|entry| {
            let value = |key: &str| {
                let line = entry.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
                line.map(|value| value.trim_end_matches('"').to_owned())
            };
            Some(((value("name")?, value("version")?), value("checksum")?))
        })
        .collect()
}

fn document(package: &str, tree: &str, checksums: &Checksums) -> Result<Value, String> {
    let lines: BTreeSet<&str> = tree.lines().filter(|line| !line.is_empty()).collect();
    let mut program = Value::Null;
    let mut components = Vec::new();
    for line in lines {
        let unreadable = || format!("cargo tree printed {line:?}, want a name, a version and a license");
        let (id, license) = line.split_once('\t').ok_or_else(unreadable)?;
        let mut words = id.split(' ');
        let (name, version) = (words.next().ok_or_else(unreadable)?, words.next().ok_or_else(unreadable)?);
        let version = version.trim_start_matches('v');
        let url = format!("pkg:cargo/{name}@{version}");
        let mut component = json!({
            "type": if name == package { "application" } else { "library" },
            "bom-ref": url,
            "name": name,
            "version": version,
            "purl": url,
        });
        if !license.is_empty() {
            // Old manifests separate licenses by a slash.
            component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
        }
        if let Some(checksum) = checksums.get(&(name.to_owned(), version.to_owned())) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        if name == package {
            program = component;
        } else {
            components.push(component);
        }
    }
    if program.is_null() {
        return Err(format!("cargo tree did not print the package {package}"));
    }
    // Without a serial number and a time, so that the same sources give the same file.
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": program },
        "components": components,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crate_has_license_and_checksum() {
        let lock = "version = 4\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\nchecksum = \"abc\"\n\n\
                    [[package]]\nname = \"app\"\nversion = \"0.1.0\"\n";
        let tree = "app v0.1.0 (/somewhere/app)\tApache-2.0\n\nserde v1.0.1\tMIT/Apache-2.0\nserde v1.0.1\tMIT/Apache-2.0\n";
        let list = document("app", tree, &checksums(lock)).unwrap();
        assert_eq!(list["metadata"]["component"]["purl"], "pkg:cargo/app@0.1.0");
        assert!(!list.to_string().contains("somewhere"), "{list}");
        let components = list["components"].as_array().unwrap();
        assert_eq!(components.len(), 1, "{list}");
        assert_eq!(components[0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(components[0]["hashes"][0]["content"], "abc");
        assert!(document("other", tree, &Checksums::new()).unwrap_err().contains("other"));
        assert!(document("app", "nonsense\n", &Checksums::new()).unwrap_err().contains("nonsense"));
    }
}
