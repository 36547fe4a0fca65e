//! The archive of an image, made from this test's own program.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Parser;
use images::args::Args;
use images::build;
use images::layer::CAPABILITY_RECORD;
use serde_json::{Value, json};
use tar::EntryType;

const PROGRAM: &str = "/proc/self/exe";

/// Makes an image with these flags and returns the archive.
fn image(program: &str, flags: &[&str]) -> Result<Vec<u8>, String> {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("image.tar");
    let bundle = directory.path().join("ca.crt");
    std::fs::write(&bundle, CERTIFICATE).unwrap();
    let mut command = vec!["images", program, "--binary", PROGRAM, "--output", output.to_str().unwrap()];
    command.extend(flags);
    if !flags.contains(&"--ca-bundle") {
        command.extend(["--ca-bundle", bundle.to_str().unwrap()]);
    }
    let args = Args::try_parse_from(command).unwrap();
    build::run(&args).map_err(|error| error.to_string())?;
    Ok(std::fs::read(output).unwrap())
}

/// An entry of a tar file.
struct Found {
    kind: EntryType,
    mode: u32,
    link: Option<PathBuf>,
    records: BTreeMap<String, Vec<u8>>,
    content: Vec<u8>,
}

fn entries(tar: &[u8]) -> BTreeMap<String, Found> {
    let mut archive = tar::Archive::new(tar);
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut records = BTreeMap::new();
        if let Some(extensions) = entry.pax_extensions().unwrap() {
            for extension in extensions {
                let extension = extension.unwrap();
                records.insert(extension.key().unwrap().to_owned(), extension.value_bytes().to_vec());
            }
        }
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let (kind, mode) = (header.entry_type(), header.mode().unwrap());
        let link = entry.link_name().unwrap().map(std::borrow::Cow::into_owned);
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.insert(path, Found { kind, mode, link, records, content });
    }
    found
}

/// The parsed documents of an archive with one architecture.
struct Image {
    index: Value,
    docker: Value,
    config: Value,
    layer: BTreeMap<String, Found>,
}

fn read(archive: &[u8]) -> Image {
    let files = entries(archive);
    let document = |path: &str| -> Value { serde_json::from_slice(&files[path].content).unwrap() };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        let content = &files[&format!("blobs/{}", digest.replace(':', "/"))].content;
        assert_eq!(descriptor["size"], content.len());
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, format!("sha256:{hash}"));
        content.clone()
    };
    assert_eq!(document("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }));
    let index = document("index.json");
    let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
    let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    let docker = document("manifest.json");
    assert!(files.contains_key(docker[0]["Config"].as_str().unwrap()));
    assert!(files.contains_key(docker[0]["Layers"][0].as_str().unwrap()));
    Image { index, docker, config, layer: entries(&blob(&manifest["layers"][0])) }
}

#[test]
fn agent_has_names_of_aws_capability_certificates_and_no_user() {
    let archive =
        image("agent", &["--revision", "abc", "--source", "https://example.test/repository"]).unwrap();
    let image = read(&archive);
    let name = concat!("pod-identity-agent:", env!("CARGO_PKG_VERSION"));
    assert_eq!(image.docker[0]["RepoTags"], json!([name]));
    let annotations = &image.index["manifests"][0]["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], format!("docker.io/library/{name}"));
    let config = &image.config["config"];
    assert_eq!(config["Entrypoint"], json!(["/pod-identity-agent"]));
    assert_eq!(config.get("User"), None, "AWS's chart runs the agent as root");
    for (label, value) in [
        ("version", env!("CARGO_PKG_VERSION")),
        ("licenses", "Apache-2.0"),
        ("revision", "abc"),
        ("source", "https://example.test/repository"),
    ] {
        assert_eq!(config["Labels"][format!("org.opencontainers.image.{label}")], value);
    }
    let program = &image.layer["pod-identity-agent"];
    assert_eq!((program.kind, program.mode), (EntryType::Regular, 0o755));
    assert!(program.content == std::fs::read(PROGRAM).unwrap());
    let capability = [0, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(program.records[CAPABILITY_RECORD], capability);
    for name in ["eks-pod-identity-agent", "go-runner"] {
        let link = &image.layer[name];
        assert_eq!(link.kind, EntryType::Symlink, "{name}");
        assert_eq!(link.link.as_deref(), Some(Path::new("pod-identity-agent")), "{name}");
    }
    let bundle = &image.layer["etc/ssl/certs/ca-certificates.crt"];
    assert_eq!((bundle.mode, bundle.content.as_slice()), (0o644, CERTIFICATE.as_bytes()));
    let passwd = String::from_utf8_lossy(&image.layer["etc/passwd"].content).into_owned();
    assert!(passwd.contains(":65532:65532:"), "{passwd}");
    let list = &image.layer["usr/share/doc/pod-identity-agent/packages.cdx.json"];
    let list: Value = serde_json::from_slice(&list.content).unwrap();
    assert_eq!(list["metadata"]["component"]["name"], "pod-identity-agent");
    let components = list["components"].as_array().unwrap();
    let rustls = components.iter().find(|component| component["name"] == "rustls").expect("rustls");
    assert_eq!(rustls["hashes"][0]["content"].as_str().unwrap().len(), 64, "{rustls}");
    assert!(components.iter().all(|component| component["name"] != "serde_derive"), "a build-time crate");
}

#[test]
fn webhook_runs_as_unprivileged_user_without_capability() {
    let image = read(&image("webhook", &["--name", "registry.example/webhook:2"]).unwrap());
    assert_eq!(image.config["config"]["User"], "65532:65532");
    assert_eq!(image.docker[0]["RepoTags"], json!(["registry.example/webhook:2"]));
    assert!(image.layer["pod-identity-webhook"].records.is_empty());
    for name in ["webhook", "go-runner"] {
        assert_eq!(image.layer[name].link.as_deref(), Some(Path::new("pod-identity-webhook")), "{name}");
    }
}

#[test]
fn same_input_makes_the_same_bytes() {
    assert!(image("auth", &[]).unwrap() == image("auth", &[]).unwrap());
}

#[test]
fn bundle_without_certificate_is_refused() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let error = image("auth", &["--ca-bundle", empty.path().to_str().unwrap()]).unwrap_err();
    assert!(error.contains("no CA certificate") && error.contains("--ca-bundle"), "{error}");
}

#[test]
fn two_programs_of_one_architecture_and_no_program_are_refused() {
    let error = image("auth", &["--binary", PROGRAM]).unwrap_err();
    assert!(error.contains("one --binary for each architecture"), "{error}");
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), "#!/bin/sh\n").unwrap();
    let error = image("auth", &["--binary", script.path().to_str().unwrap()]).unwrap_err();
    assert!(error.contains("ELF"), "{error}");
}

/// The layers of both architectures are behind one index.
#[test]
fn two_architectures_share_an_index() {
    // The header of this test's program, with another architecture, as a static program.
    let mut other = std::fs::read(PROGRAM).unwrap()[..64].to_vec();
    let here = other[18];
    other[18] = if here == 62 { 183 } else { 62 };
    other[56..58].fill(0); // no program headers
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), other).unwrap();
    let files = entries(&image("auth", &["--binary", file.path().to_str().unwrap()]).unwrap());
    let index: Value = serde_json::from_slice(&files["index.json"].content).unwrap();
    let top = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let inner: Value = serde_json::from_slice(&files[&format!("blobs/{top}")].content).unwrap();
    let of_each: Vec<&str> = inner["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|manifest| manifest["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(of_each, if here == 62 { ["amd64", "arm64"] } else { ["arm64", "amd64"] });
    let docker: Value = serde_json::from_slice(&files["manifest.json"].content).unwrap();
    assert_eq!(docker.as_array().unwrap().len(), 1, "docker load reads one platform");
}

#[test]
fn docs_list_every_flag() {
    let page = include_str!("../../docs/how-to/build-images.md");
    testing::flags::every_flag_is_in(page, &<Args as clap::CommandFactory>::command());
}

/// A self-signed certificate of this test.
const CERTIFICATE: &str = include_str!("certificate.pem");
