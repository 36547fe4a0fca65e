//! The file with the pod's token.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};

use zeroize::Zeroizing;

use crate::error::Error;

/// What to do about a file that is not there.
const NOT_THERE: &str = "Was the pod created before the webhook, its association or its service account's annotation, \
                         or is the path wrong? See that the pod has the volume with the token, or create it anew";
/// What to do about a file that another user may read. Kubelet gives it to the user that the pod's containers run as, or
/// to the group `fsGroup` (Kubernetes, *Configure Service Accounts for Pods*; KEP-1205, *File Permission*).
const NOT_ALLOWED: &str = "Only the user that the pod's spec says may read the token's file: set fsGroup in the pod's \
                           securityContext, or the user of this process as its runAsUser";
/// What to do about a file that holds no token.
const NOT_A_TOKEN: &str = "Let the variable name the file of the projected service account token, and nothing else \
                           write to it";

/// Reads the token from the file that `variable` names, without the white space around it: files that people write
/// end with a line feed, and no token holds any.
///
/// It blocks. Kubelet keeps tokens in memory (a `tmpfs`), so that it takes less than handing it to another thread.
///
/// # Errors
/// [`Error::Unusable`] where there is no file that may be read, or no token in it; [`Error::Unreadable`] where the
/// system says anything else. Nothing of the content is in the error.
pub(crate) fn read(variable: &'static str, path: &str, longest: usize) -> Result<Zeroizing<String>, Error> {
    let failed = |error| failed(variable, path, &error);
    // Opening a pipe that nobody writes to would wait for ever.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(unusable(variable, format!("names {path:?}, which is no regular file"), NOT_A_TOKEN));
    }
    // Room for all that is read: a buffer that grows leaves copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(longest + 64));
    let most = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut content)).map_err(failed)?;
    check(variable, &content, longest)
}

/// What the system says of a file that it does not give. What the pod's spec has wrong is final; the rest (too many files
/// are open, a disk that is away) may pass.
fn failed(variable: &'static str, path: &str, error: &io::Error) -> Error {
    let reason = format!("names {path:?}, which cannot be read: {error}");
    match error.kind() {
        ErrorKind::NotFound => unusable(variable, format!("names {path:?}, which is not there"), NOT_THERE),
        ErrorKind::PermissionDenied => unusable(variable, reason, NOT_ALLOWED),
        _ => Error::Unreadable { variable, reason },
    }
}

/// A token, whatever it was read from: what an HTTP header can hold.
///
/// # Errors
/// [`Error::Unusable`] where it is none.
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
    Err(unusable(variable, wrong, NOT_A_TOKEN))
}

/// A text of somebody else's without the token, and without such parts of it as could be told from a word.
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

fn unusable(variable: &'static str, reason: String, hint: &'static str) -> Error {
    Error::Unusable { variable, reason, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_out_of_a_text_and_so_are_its_parts() {
        const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlLW9mLXRoaXM";
        let text = format!("token {TOKEN} of system; header eyJhbGciOiJSUzI1NiJ9, cut eyJhbGciOiJSUzI1N...");
        let expected = "token <redacted> of system; header <redacted>, cut <redacted>...";
        assert_eq!(redact(TOKEN, &text), expected);
        let other = "no association for default/app (é)";
        assert_eq!(redact(TOKEN, other), other);
    }

    #[test]
    fn a_token_is_what_a_header_can_hold_and_white_space_around_it_is_not_part_of_it() {
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
    fn only_what_the_pods_spec_has_wrong_is_final() {
        let missing = failed("TOKEN", "/token", &ErrorKind::NotFound.into());
        let denied = failed("TOKEN", "/token", &ErrorKind::PermissionDenied.into());
        for (error, says, hint) in
            [(missing, "which is not there", "volume"), (denied, "permission denied", "fsGroup")]
        {
            assert!(matches!(error, Error::Unusable { .. }) && !error.is_retryable(), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(says) && text.contains(hint), "{text}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_that_the_system_cannot_read_now_may_be_read_later() {
        // A process's memory has nothing at address 0: EIO.
        let error = read("TOKEN", "/proc/self/mem", 10).unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }) && error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains("os error 5"), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn a_pipe_that_nobody_writes_to_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("token").display().to_string();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || send.send(read("TOKEN", &pipe, 10)));
        let read = receive.recv_timeout(std::time::Duration::from_secs(30)).expect("the reader waits");
        assert!(read.unwrap_err().to_string().contains("no regular file"));
    }
}
