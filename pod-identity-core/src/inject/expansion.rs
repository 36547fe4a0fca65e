//! Kubelet's expansion of variables in values (Kubernetes `third_party/forked/golang/expansion/expand.go`): `$(NAME)` is
//! another variable's value, `$$` is `$`.

use std::borrow::Cow;

/// Returns the value that kubelet expands to `text`. Without it, a role from an annotation could send another variable, which
/// may be a secret, to STS.
pub(super) fn literal(text: &str) -> Cow<'_, str> {
    if text.contains('$') { Cow::Owned(text.replace('$', "$$")) } else { Cow::Borrowed(text) }
}

/// Expands a value; `None` if the result depends on other variables.
pub(super) fn expanded(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains('$') {
        return Some(Cow::Borrowed(value));
    }
    let is_constant = !value.replace("$$", "").contains("$(");
    is_constant.then(|| Cow::Owned(value.replace("$$", "$")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_values_as_kubelet_does() {
        for (value, expected) in [
            ("/a", Some("/a")),
            ("/$$(A)", Some("/$(A)")),
            ("/$(A)", None),
            ("/$$$(A)", None),
            ("/$$a$b", Some("/$a$b")),
        ] {
            assert_eq!(expanded(value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn a_literal_expands_to_itself() {
        for text in ["", "/a", "$", "$(A)", "$$(A)", "a$b"] {
            assert_eq!(expanded(&literal(text)).as_deref(), Some(text));
        }
    }
}
