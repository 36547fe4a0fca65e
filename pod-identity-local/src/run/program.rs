//! Whether a command can be started, asked before it is.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::io::Errno;

/// Looks a program up as `execvp` does: by its path where it has a slash, else along the `PATH`.
///
/// # Errors
/// As `execvp`: `ENOENT` where there is none, `EACCES` where none that there is can be executed.
pub(super) fn look_up(program: &OsStr) -> io::Result<()> {
    if program.as_bytes().contains(&b'/') {
        return executable(Path::new(program));
    }
    // Without a PATH, the C library has its own.
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
