//! The files as a tar layer: sorted, with the time 0 and the owner root, so that the same files make the same bytes.

use std::collections::BTreeSet;
use std::io;

use tar::{Builder, EntryType, Header};

use crate::root::{Entry, Root};

/// The PAX record of the attribute that holds a file's capabilities.
pub const CAPABILITY_RECORD: &str = "SCHILY.xattr.security.capability";

/// Writes the entries and their parent directories as a tar file.
///
/// # Errors
/// If a path is too long for a tar header.
pub fn tar(root: &Root) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let mut directories = BTreeSet::new();
    for path in root.keys() {
        for (end, _) in path.match_indices('/') {
            directories.insert(&path[..end]);
        }
    }
    for directory in directories {
        append(&mut tar, EntryType::Directory, &format!("{directory}/"), 0o755, &[])?;
    }
    for (path, entry) in root {
        match entry {
            Entry::File { content, executable, capability } => {
                if let Some(value) = capability {
                    // Its header is reproducible: the crate sets neither a time nor an owner.
                    tar.append_pax_extensions([(CAPABILITY_RECORD, *value)])?;
                }
                let mode = if *executable { 0o755 } else { 0o644 };
                append(&mut tar, EntryType::Regular, path, mode, content)?;
            }
            Entry::Link(target) => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    tar.into_inner()
}

/// Appends a file with this content.
///
/// # Errors
/// If the path is too long for a tar header.
pub(crate) fn append(
    tar: &mut Builder<Vec<u8>>,
    kind: EntryType,
    path: &str,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    let mut header = header(kind, mode, content.len() as u64);
    tar.append_data(&mut header, path, content)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
