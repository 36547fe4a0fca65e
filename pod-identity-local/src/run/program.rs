//! Looks up a program before it is started.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::io::Errno;

/// Looks up a program as `execvp` does: by its path if it has a slash, else in the directories of `PATH`.
///
/// # Errors
/// The errors of `execvp`: `ENOENT` if no file exists, `EACCES` if no existing file can be executed.
pub(super) fn look_up(program: &OsStr) -> io::Result<()> {
    if program.as_bytes().contains(&b'/') {
        return executable(Path::new(program));
    }
    // The default of the C library.
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut failure = io::Error::from(Errno::NOENT);
    for directory in std::env::split_paths(&path) {
        match executable(&directory.join(program)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => failure = error,
            Err(_) => {}
            Ok(()) => return Ok(()),
        }
    }
    Err(failure)
}

fn executable(path: &Path) -> io::Result<()> {
    let found = path.metadata()?;
    if found.is_file() && found.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(Errno::ACCESS.into())
}
