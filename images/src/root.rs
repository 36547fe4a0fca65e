//! The files of an image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::elf::{self, Architecture, Elf};
use crate::program::Program;

/// The place of the CA certificates on Debian, where TLS libraries look for them.
pub const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// An entry of the image's root directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File {
        /// The content.
        content: Vec<u8>,
        /// Whether it is a program or a library.
        executable: bool,
        /// The value of the attribute `security.capability`.
        capability: Option<&'static [u8]>,
    },
    /// A symbolic link to this target.
    Link(String),
}

/// The entries by path, without the leading slash.
pub type Root = BTreeMap<String, Entry>;

/// Error of collecting the files.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A file cannot be read.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The CA bundle has no certificate.
    #[error(
        "{}: the file has no CA certificate, want at least one: install the package ca-certificates or give --ca-bundle",
        .0.display()
    )]
    NoCertificate(PathBuf),
    /// A library is missing.
    #[error(
        "{}: library {name} for {architecture} was not found in {searched:?}: install it, or link the program statically",
        .program.display()
    )]
    Library {
        /// The program.
        program: PathBuf,
        /// The library's name.
        name: String,
        /// The program's architecture.
        architecture: &'static str,
        /// The searched directories.
        searched: Vec<String>,
    },
}

/// Collects the files of an image, and returns them with the program's architecture.
///
/// # Errors
/// [`RootError`] names the file.
pub fn collect(program: Program, binary: &Path, ca_bundle: &Path) -> Result<(Architecture, Root), RootError> {
    let content = read(binary)?;
    let elf = elf::read(&content).map_err(|reason| RootError::File { path: binary.to_owned(), reason })?;
    let mut root = Root::new();
    root.insert(CA_BUNDLE[1..].to_owned(), plain(certificates(ca_bundle)?));
    root.insert("etc/passwd".to_owned(), plain(PASSWD.into()));
    root.insert("etc/group".to_owned(), plain(GROUP.into()));
    root.insert("etc/nsswitch.conf".to_owned(), plain(NSSWITCH.into()));
    for link in program.links() {
        root.insert((*link).to_owned(), Entry::Link(program.name().to_owned()));
    }
    libraries(binary, &elf, &mut root)?;
    let file = Entry::File { content, executable: true, capability: program.capability() };
    root.insert(program.name().to_owned(), file);
    Ok((elf.architecture, root))
}

const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";
/// Without this file glibc asks DNS before /etc/hosts.
const NSSWITCH: &str = "hosts: files dns\n";

fn plain(content: Vec<u8>) -> Entry {
    Entry::File { content, executable: false, capability: None }
}

fn read(path: &Path) -> Result<Vec<u8>, RootError> {
    std::fs::read(path).map_err(|error| RootError::File { path: path.to_owned(), reason: error.to_string() })
}

fn certificates(path: &Path) -> Result<Vec<u8>, RootError> {
    let pem = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(RootError::NoCertificate(path.to_owned())),
        Ok(_) => Ok(pem),
        Err(error) => Err(RootError::File { path: path.to_owned(), reason: error.to_string() }),
    }
}

/// Adds the loader and the libraries, and the libraries of the libraries.
fn libraries(program: &Path, elf: &Elf, root: &mut Root) -> Result<(), RootError> {
    let Some(loader) = &elf.loader else { return Ok(()) };
    let loader_name = loader.rsplit('/').next().unwrap_or_default().to_owned();
    let (_, content, _) = find(program, &loader_name, elf.architecture)?;
    root.insert(loader.trim_start_matches('/').to_owned(), shared(content));
    let mut wanted = elf.libraries.clone();
    while let Some(name) = wanted.pop() {
        // A library can be linked with the loader.
        if name == loader_name || root.keys().any(|path| path.rsplit('/').next() == Some(&name)) {
            continue;
        }
        let (place, content, needs) = find(program, &name, elf.architecture)?;
        wanted.extend(needs);
        root.insert(format!("{}/{name}", place.trim_start_matches('/')), shared(content));
    }
    Ok(())
}

fn shared(content: Vec<u8>) -> Entry {
    Entry::File { content, executable: true, capability: None }
}

/// Finds a library of this architecture. Returns its directory in the image, its content and the libraries that it needs.
fn find(
    program: &Path,
    name: &str,
    architecture: Architecture,
) -> Result<(String, Vec<u8>, Vec<String>), RootError> {
    let triplet = architecture.triplet();
    // The loader searches the first six. The last one is that of a cross compiler.
    let cross = format!("/usr/{triplet}/lib");
    let searched = [
        format!("/lib/{triplet}"),
        format!("/usr/lib/{triplet}"),
        "/lib64".to_owned(),
        "/usr/lib64".to_owned(),
        "/lib".to_owned(),
        "/usr/lib".to_owned(),
        cross.clone(),
    ];
    for directory in &searched {
        let Ok(content) = std::fs::read(Path::new(directory).join(name)) else { continue };
        let Ok(found) = elf::read(&content) else { continue };
        if found.architecture == architecture {
            let place = if *directory == cross { "/lib" } else { directory };
            return Ok((place.to_owned(), content, found.libraries));
        }
    }
    Err(RootError::Library {
        program: program.to_owned(),
        name: name.to_owned(),
        architecture: architecture.name(),
        searched: searched.to_vec(),
    })
}
