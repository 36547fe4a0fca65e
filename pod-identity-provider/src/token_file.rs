//! The file of the pod's token.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};

use zeroize::Zeroizing;

use crate::error::{Error, TokenUnreadable};

/// What to do about a missing file.
const NOT_THERE: &str = "Check that the pod has the volume of the token and that the path is right. Create the pod again if \
                         it was created before the webhook, its association or its service account's annotation";
/// What to do about a file of another user. Kubelet makes the file readable to the user of the pod's containers, or to
/// the group `fsGroup` (Kubernetes, *Configure Service Accounts for Pods*; KEP-1205, *File Permission*).
const NOT_ALLOWED: &str = "Set fsGroup in the pod's securityContext, or set runAsUser to the user of this process: no other \
                           user may read the token file";
/// What to do about a file that holds no token.
const NOT_A_TOKEN: &str = "Let the variable name the file of the projected service account token, and let only kubelet \
                           write to it";

/// Reads the token from the file that `variable` names. White space around the token is removed, since files that people
/// write end with a line feed.
///
/// It blocks. Kubelet keeps tokens in memory (a `tmpfs`), so the read is faster than a switch to another thread.
///
/// # Errors
/// [`Error::InvalidConfiguration`] if the file is missing, is not readable by this user, or holds no token.
/// [`Error::TokenUnreadable`] for other errors of the system. No error holds the content.
pub(crate) fn read(variable: &'static str, path: &str, longest: usize) -> Result<Zeroizing<String>, Error> {
    let failed = |error| failed(variable, path, &error);
    // Opening a pipe without a writer would block for ever.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::unusable(
            variable,
            &format!("names {path:?}, which is no regular file"),
            NOT_A_TOKEN,
        ));
    }
    // Capacity for everything: a buffer that grows leaves copies of the token in memory.
    let mut content = Zeroizing::new(Vec::with_capacity(longest + 64));
    let most = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut content)).map_err(failed)?;
    check(variable, &content, longest)
}

/// Classifies an error of the system. What the pod's spec has wrong is final. Other errors, such as too many open files,
/// may pass.
fn failed(variable: &'static str, path: &str, error: &io::Error) -> Error {
    let reason = format!("names {path:?}, which cannot be read: {error}");
    match error.kind() {
        ErrorKind::NotFound => {
            Error::unusable(variable, &format!("names {path:?}, which does not exist"), NOT_THERE)
        }
        ErrorKind::PermissionDenied => Error::unusable(variable, &reason, NOT_ALLOWED),
        _ => Error::TokenUnreadable(TokenUnreadable { variable, reason }),
    }
}

/// Checks that the content is a token that an HTTP header can hold.
///
/// # Errors
/// [`Error::InvalidConfiguration`] if it is not.
pub(crate) fn check(
    variable: &'static str,
    content: &[u8],
    longest: usize,
) -> Result<Zeroizing<String>, Error> {
    let token = content.trim_ascii();
    let wrong = match std::str::from_utf8(token) {
        _ if content.len() > longest => format!("gives a token of more than {longest} bytes"),
        Ok("") => "gives an empty token".to_owned(),
        Ok(token) if token.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
            return Ok(Zeroizing::new(token.to_owned()));
        }
        _ => "gives a token with a line feed or another character in it that no HTTP header can hold"
            .to_owned(),
    };
    Err(Error::unusable(variable, &wrong, NOT_A_TOKEN))
}

/// Removes the token from another program's text, with all parts of it that have at least 16 characters.
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
    fn a_token_and_its_parts_are_removed_from_a_text() {
        const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlLW9mLXRoaXM";
        let text = format!("token {TOKEN} of system; header eyJhbGciOiJSUzI1NiJ9, cut eyJhbGciOiJSUzI1N...");
        let expected = "token <redacted> of system; header <redacted>, cut <redacted>...";
        assert_eq!(redact(TOKEN, &text), expected);
        let other = "no association for default/app (é)";
        assert_eq!(redact(TOKEN, other), other);
    }

    #[test]
    fn a_token_is_printable_ascii_and_white_space_around_it_is_removed() {
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
    fn a_missing_file_and_a_refused_read_are_final() {
        let missing = failed("TOKEN", "/token", &ErrorKind::NotFound.into());
        let denied = failed("TOKEN", "/token", &ErrorKind::PermissionDenied.into());
        for (error, says, hint) in
            [(missing, "which does not exist", "volume"), (denied, "permission denied", "fsGroup")]
        {
            assert!(matches!(error, Error::InvalidConfiguration(_)) && !error.is_retryable(), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(says) && text.contains(hint), "{text}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn other_errors_of_the_system_are_retryable() {
        // Reading a process's memory at address 0 is EIO.
        let error = read("TOKEN", "/proc/self/mem", 10).unwrap_err();
        assert!(matches!(error, Error::TokenUnreadable(_)) && error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains("os error 5"), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn a_pipe_without_a_writer_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("token").display().to_string();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || send.send(read("TOKEN", &pipe, 10)));
        let read = receive.recv_timeout(std::time::Duration::from_secs(30)).expect("the reader waits");
        assert!(read.unwrap_err().to_string().contains("no regular file"));
    }
}
