//! The public API of each library must match its `public-api.txt`, so that review shows every change.
//!
//! `UPDATE_PUBLIC_API=1 cargo test -p testing --test public_api` updates the lists. The test is in this crate, so that the
//! libraries need no additional dependencies for their own tests.
//!
//! A list omits derived implementations (`Clone`, `Debug`, `Eq`, `Hash` and others), auto traits, the functions and types of
//! implemented traits, and lines that only open an `impl` block. These are half of all lines. A list includes hand-written
//! implementations.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of rustdoc's JSON format that the workspace's version of `public-api` reads (its dependency rustdoc-types).
/// Rust 1.95 writes this version.
const FORMAT: u64 = 57;

/// A published library.
struct Library {
    name: &'static str,
    /// Other crates whose items may occur in signatures.
    allowed_crates: &'static [&'static str],
}

/// The core exposes no HTTP library, no Kubernetes client and no AWS SDK.
const CORE: Library = Library { name: "pod-identity-core", allowed_crates: &["serde_core"] };

/// The provider exposes the SDK's basic types: credentials, identity cache, HTTP client, name resolver, timers and time. It
/// exposes no AWS service and no type of the core.
const PROVIDER: Library = Library {
    name: "pod-identity-provider",
    allowed_crates: &["aws_credential_types", "aws_smithy_async", "aws_smithy_runtime_api"],
};

const STANDARD: [&str; 3] = ["alloc", "core", "std"];

impl Library {
    fn list(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(self.name).join("public-api.txt")
    }

    /// Returns the library's name in paths.
    fn root(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Builds the documentation with all features as JSON, and returns its path. The format is unstable. The file contains
    /// the version of the format.
    fn rustdoc_json(&self) -> PathBuf {
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]));
        let documented = Command::new(env!("CARGO"))
            .args(["rustdoc", "--locked", "--quiet", "--lib", "--all-features", "--package", self.name])
            .args(["--", "-Z", "unstable-options", "--output-format", "json", "--cap-lints", "allow"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("RUSTDOC", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/public_api/rustdoc"))
            .env("RUSTDOC_OF_TOOLCHAIN", Path::new(sysroot.trim()).join("bin/rustdoc"))
            .env_remove("RUSTDOCFLAGS")
            .output()
            .unwrap();
        assert!(documented.status.success(), "{}", String::from_utf8_lossy(&documented.stderr));
        // `CARGO_TARGET_TMPDIR` is a directory directly below the target directory.
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("../doc").join(self.root()).with_extension("json")
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the list of public items, one per line.
fn public_items(json: PathBuf) -> String {
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap();
    let mut list = String::new();
    let mut implemented_for = None;
    for item in api.items() {
        let line = item.to_string();
        if line.starts_with("impl") {
            let type_and_bounds = line.split_once(" for ").map(|(_, after)| after);
            let type_alone = type_and_bounds.and_then(|text| text.split(" where ").next());
            implemented_for = type_alone.map(|name| format!("{name}::"));
        }
        // The path shows whether the item is inside the `impl` block, because a free function may follow the block.
        let path = line
            .split('(')
            .next()
            .filter(|path| path.starts_with("pub fn ") || path.starts_with("pub type "));
        let of_trait = path.zip(implemented_for.as_ref()).is_some_and(|(path, of)| path.contains(of));
        let opens_a_block = line.starts_with("impl") && !line.contains(" for ");
        // `public_api` lists an implementation twice: with its type and with its trait.
        let duplicate = line.starts_with("impl") && list.lines().any(|listed| listed == line);
        if !(of_trait || opens_a_block || duplicate) {
            list.push_str(&line);
            list.push('\n');
        }
    }
    list
}

/// Returns the crates of the paths in a list.
fn crates(list: &str) -> BTreeSet<&str> {
    let paths = list.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    let roots = paths.filter_map(|path| path.split_once("::")).map(|(root, _)| root);
    // Type parameters and `Self` are not crates.
    roots.filter(|root| root.starts_with(|c: char| c.is_lowercase())).collect()
}

fn assert_listed(library: &Library) {
    let json = library.rustdoc_json();
    let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let updating = std::env::var_os("UPDATE_PUBLIC_API").is_some();
    if read["format_version"] != FORMAT {
        let note = format!(
            "THE PUBLIC API IS NOT CHECKED: rustdoc of this toolchain writes format {}, and the library \
             public-api reads {FORMAT}. Use Rust 1.95, or change the library's version in the root \
             Cargo.toml and FORMAT in this test.",
            read["format_version"]
        );
        assert!(!updating, "{note}");
        // Not a failure, so that the tests can run with a newer toolchain. The test harness captures `eprintln!`, but not
        // this line.
        let _ = writeln!(std::io::stderr(), "\n*** {note} ***\n");
        return;
    }
    let actual = public_items(json);
    let allowed = |name: &&str| {
        STANDARD.contains(name) || library.allowed_crates.contains(name) || *name == library.root()
    };
    let foreign: Vec<_> = crates(&actual).into_iter().filter(|name| !allowed(name)).collect();
    assert!(foreign.is_empty(), "the public API of {} has items of {foreign:?}", library.name);
    for name in library.allowed_crates {
        assert!(
            crates(&actual).contains(name),
            "the public API of {} has no item of {name}: remove {name} from `allowed_crates`",
            library.name
        );
    }
    if updating {
        std::fs::write(library.list(), &actual).unwrap();
    }
    let listed = std::fs::read_to_string(library.list()).unwrap();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (actual, listed) = (lines(&actual), lines(&listed));
    let removed: Vec<_> = listed.difference(&actual).collect();
    let added: Vec<_> = actual.difference(&listed).collect();
    assert!(
        removed.is_empty() && added.is_empty(),
        "the public API of {} has changed.\nremoved: {removed:#?}\nadded: {added:#?}\nIf the change is intended, run \
         UPDATE_PUBLIC_API=1 cargo test -p testing --test public_api",
        library.name
    );
}

#[test]
fn public_api_of_the_core_is_as_listed() {
    assert_listed(&CORE);
}

#[test]
fn public_api_of_the_provider_is_as_listed() {
    assert_listed(&PROVIDER);
}
