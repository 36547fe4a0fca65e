//! The public APIs of the libraries, as their `public-api.txt` list them: a change is seen in review, and is on purpose.
//!
//! `UPDATE_PUBLIC_API=1 cargo test -p testing --test public_api` writes the lists anew. The test is here and not in the
//! libraries, so that they have it once and build their own tests with little.
//!
//! A list has no derived implementations (`Clone`, `Debug`, `Eq`, `Hash` and the like of `#[derive]`), no auto traits, no
//! functions and types of implemented traits, and no lines that only open an `impl` block: they say little, and are half
//! of the lines. Implementations written by hand are there.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of rustdoc's JSON that the library `public-api` reads, in the version that the workspace
/// names (its dependency rustdoc-types). Rust 1.95 writes it.
const FORMAT: u64 = 57;

/// A library that others build on.
struct Library {
    name: &'static str,
    /// The other crates whose items may stand in its signatures: whoever uses the library has to do with them too.
    known: &'static [&'static str],
}

/// No HTTP library, no Kubernetes client and no AWS SDK.
const CORE: Library = Library { name: "pod-identity-core", known: &["serde_core"] };

/// What the SDK's clients are given: credentials and their errors, an identity cache, an HTTP client, names, timers and
/// time. No service of AWS, and nothing of the core.
const PROVIDER: Library = Library {
    name: "pod-identity-provider",
    known: &["aws_credential_types", "aws_smithy_async", "aws_smithy_runtime_api"],
};

/// What is everybody's.
const STANDARD: [&str; 3] = ["alloc", "core", "std"];

impl Library {
    fn list(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(self.name).join("public-api.txt")
    }

    /// Its name in paths.
    fn root(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Its documentation as JSON, with all features; it is unstable, and says its version itself.
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
        // Beside this test's own directory for files: below the target directory.
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("../doc").join(self.root()).with_extension("json")
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns every public item on a line, without implementations for all types, auto traits, derived implementations,
/// the functions and types of an implemented trait, and the beginnings of `impl` blocks.
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
        // A free function may come next in the list: its path goes through no type.
        let path = line
            .split('(')
            .next()
            .filter(|path| path.starts_with("pub fn ") || path.starts_with("pub type "));
        let of_trait = path.zip(implemented_for.as_ref()).is_some_and(|(path, of)| path.contains(of));
        let opens_a_block = line.starts_with("impl") && !line.contains(" for ");
        // An implementation is listed with its type and with its trait: once is enough.
        let again = line.starts_with("impl") && list.lines().any(|listed| listed == line);
        if !(of_trait || opens_a_block || again) {
            list.push_str(&line);
            list.push('\n');
        }
    }
    list
}

/// The crates that the paths of a list begin with.
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
            "THE PUBLIC API IS NOT CHECKED: rustdoc of this toolchain writes format {}, the library \
             public-api reads {FORMAT}. Use Rust 1.95, or change the library's version in the root \
             Cargo.toml and FORMAT here.",
            read["format_version"]
        );
        assert!(!updating, "{note}");
        // No failure: a newer toolchain must not keep anybody from running the tests. To stderr past the
        // test harness, which would keep back what `eprintln!` prints.
        let _ = writeln!(std::io::stderr(), "\n*** {note} ***\n");
        return;
    }
    let actual = public_items(json);
    let known =
        |name: &&str| STANDARD.contains(name) || library.known.contains(name) || *name == library.root();
    let foreign: Vec<_> = crates(&actual).into_iter().filter(|name| !known(name)).collect();
    assert!(foreign.is_empty(), "the public API of {} has items of {foreign:?}", library.name);
    for name in library.known {
        assert!(
            crates(&actual).contains(name),
            "{} has nothing of {name}: take it off its list",
            library.name
        );
    }
    if updating {
        std::fs::write(library.list(), &actual).unwrap();
    }
    let listed = std::fs::read_to_string(library.list()).unwrap();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (actual, listed) = (lines(&actual), lines(&listed));
    let gone: Vec<_> = listed.difference(&actual).collect();
    let new: Vec<_> = actual.difference(&listed).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "the public API of {} has changed.\ngone: {gone:#?}\nnew: {new:#?}\nIf that is meant: \
         UPDATE_PUBLIC_API=1 cargo test -p testing --test public_api",
        library.name
    );
}

#[test]
fn the_public_api_of_the_core_is_the_one_that_is_listed_and_has_no_other_librarys_types() {
    assert_listed(&CORE);
}

#[test]
fn the_public_api_of_the_provider_is_the_one_that_is_listed_and_has_the_sdks_types_that_are_meant() {
    assert_listed(&PROVIDER);
}
