//! The file with the pod's token.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};

use zeroize::Zeroizing;

use crate::error::{Error, TokenUnreadable};

const FIX_MISSING_FILE: &str = "Check that the pod has the token's volume and that the path is right. Recreate the pod if it \
                                was created before the webhook, its association or its service account's annotation";
/// Kubelet makes the file readable to the user of the pod's containers, or to the group `fsGroup` (Kubernetes, *Configure
/// Service Accounts for Pods*; KEP-1205, *File Permission*).
const FIX_PERMISSION: &str = "Set fsGroup in the pod's securityContext, or set runAsUser to the user of this process: kubelet \
                              makes the token file readable to that group or user only";
const FIX_NOT_A_TOKEN: &str = "Set the variable to the path of the projected service account token, and let only kubelet \
                               write to that file";

/// Reads the token from `path`, the value of `variable`. Removes white space around the token, because a file that a person
/// wrote ends with a line feed.
///
/// The read blocks. Kubelet keeps tokens in memory (a `tmpfs`), so a read is faster than a switch to another thread.
///
/// # Errors
/// [`Error::InvalidConfiguration`] if the file is missing, is not readable by this user, or holds no token.
/// [`Error::TokenUnreadable`] for other I/O errors. The errors do not contain the file's content.
pub(crate) fn read(
    variable: &'static str,
    path: &str,
    max_length: usize,
) -> Result<Zeroizing<String>, Error> {
    let failed = |error| failed(variable, path, &error);
    // Opening a pipe without a writer blocks forever.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::unusable(
            variable,
            &format!("names {path:?}, which is no regular file"),
            FIX_NOT_A_TOKEN,
        ));
    }
    // Reserve the full capacity, because a growing buffer leaves copies of the token in memory.
    let mut content = Zeroizing::new(Vec::with_capacity(max_length + 64));
    let read_limit = u64::try_from(max_length).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(read_limit).read_to_end(&mut content)).map_err(failed)?;
    check(variable, &content, max_length)
}

/// Classifies an I/O error. Errors that the pod's spec causes are final. Others are retryable, such as too many open files.
fn failed(variable: &'static str, path: &str, error: &io::Error) -> Error {
    let reason = format!("names {path:?}, which cannot be read: {error}");
    match error.kind() {
        ErrorKind::NotFound => {
            Error::unusable(variable, &format!("names {path:?}, which does not exist"), FIX_MISSING_FILE)
        }
        ErrorKind::PermissionDenied => Error::unusable(variable, &reason, FIX_PERMISSION),
        _ => Error::TokenUnreadable(TokenUnreadable { variable, reason }),
    }
}

/// Returns the token in `content`, without white space around it.
///
/// # Errors
/// [`Error::InvalidConfiguration`] if the token is empty, too long, or not allowed in an HTTP header.
pub(crate) fn check(
    variable: &'static str,
    content: &[u8],
    max_length: usize,
) -> Result<Zeroizing<String>, Error> {
    let token = content.trim_ascii();
    let reason = match std::str::from_utf8(token) {
        _ if content.len() > max_length => format!("provides a token of more than {max_length} bytes"),
        Ok("") => "provides an empty token".to_owned(),
        Ok(token) if token.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
            return Ok(Zeroizing::new(token.to_owned()));
        }
        _ => "provides a token with a character that an HTTP header cannot contain, such as a line feed"
            .to_owned(),
    };
    Err(Error::unusable(variable, &reason, FIX_NOT_A_TOKEN))
}

/// Removes the token from a text of another program. Also removes parts of the token of at least 16 characters.
pub(crate) fn redact(token: &str, text: &str) -> String {
    const SHORTEST_PART: usize = 16;
    const REDACTED: &str = "<redacted>";
    let text = text.replace(token, REDACTED);
    let part = |word: &str| word.len() >= SHORTEST_PART && token.contains(word);
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-_=+/".contains(c);
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find(is_word) {
        let (between, words) = rest.split_at(start);
        let (word, after) = words.split_at(words.find(|c| !is_word(c)).unwrap_or(words.len()));
        redacted += between;
        redacted += if part(word) { REDACTED } else { word };
        rest = after;
    }
    redacted + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacts_a_token_and_its_parts() {
        const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlLW9mLXRoaXM";
        let text = format!("token {TOKEN} of system; header eyJhbGciOiJSUzI1NiJ9, cut eyJhbGciOiJSUzI1N...");
        let expected = "token <redacted> of system; header <redacted>, cut <redacted>...";
        assert_eq!(redact(TOKEN, &text), expected);
        let other = "no association for default/app (é)";
        assert_eq!(redact(TOKEN, other), other);
    }

    #[test]
    fn accepts_printable_ascii_and_removes_white_space_around_it() {
        let read = |text: &[u8]| check("TOKEN", text, 10).map(|token| token.to_string());
        for text in ["a.b.c", "a.b.c\n", "a.b.c\r\n", " a.b.c \n\n"] {
            assert_eq!(read(text.as_bytes()).unwrap(), "a.b.c", "{text:?}");
        }
        for (text, reason) in [
            (&b"\n"[..], "empty"),
            (b"s\ncret", "line feed"),
            (b"s\tcret", "line feed"),
            (b"s\x7fcret", "line feed"),
            (b"s\xc3\xa9cret", "line feed"),
            (b"s\xffcret", "line feed"),
            (b"secretsecret", "more than 10 bytes"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("cret"), "{error}");
        }
    }

    #[test]
    fn missing_and_forbidden_files_are_final_errors() {
        let missing = failed("TOKEN", "/token", &ErrorKind::NotFound.into());
        let denied = failed("TOKEN", "/token", &ErrorKind::PermissionDenied.into());
        for (error, cause, hint) in
            [(missing, "which does not exist", "volume"), (denied, "permission denied", "fsGroup")]
        {
            assert!(matches!(error, Error::InvalidConfiguration(_)) && !error.is_retryable(), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(cause) && text.contains(hint), "{text}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn other_io_errors_are_retryable() {
        // Reading a process's memory at address 0 fails with EIO.
        let error = read("TOKEN", "/proc/self/mem", 10).unwrap_err();
        assert!(matches!(error, Error::TokenUnreadable(_)) && error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains("os error 5"), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn rejects_a_pipe_without_blocking() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("token").display().to_string();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || send.send(read("TOKEN", &pipe, 10)));
        let read = receive.recv_timeout(std::time::Duration::from_secs(30)).expect("read does not block");
        assert!(read.unwrap_err().to_string().contains("no regular file"));
    }
}
