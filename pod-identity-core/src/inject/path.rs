//! Paths in containers and volumes.

/// A path in a container or volume, as Linux or Windows writes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'p> {
    text: &'p str,
    is_windows: bool,
}

impl<'p> Path<'p> {
    /// Returns an absolute path; `None` if it leads upwards or is not absolute.
    pub(super) fn absolute(text: &'p str) -> Option<Self> {
        Self::of_mount(text).filter(|path| path.components().all(|component| component != ".."))
    }

    /// Returns the path of a mount; `None` if it is not absolute. One that leads upwards contains no [`Self::absolute`] path.
    pub(super) fn of_mount(text: &'p str) -> Option<Self> {
        let on_drive = text.strip_prefix("C:").or_else(|| text.strip_prefix("c:"));
        let path = Self { text: on_drive.unwrap_or(text), is_windows: on_drive.is_some() };
        path.text.bytes().next().is_some_and(|byte| path.is_separator(byte)).then_some(path)
    }

    /// Returns a path below the root of a volume; `None` if it leads upwards.
    pub(super) fn in_volume(text: &'p str) -> Option<Self> {
        let path = Self { text, is_windows: false };
        path.components().all(|component| component != "..").then_some(path)
    }

    fn is_separator(self, byte: u8) -> bool {
        byte == b'/' || self.is_windows && byte == b'\\'
    }

    pub(super) fn components(self) -> impl Iterator<Item = &'p str> {
        let mut rest = self.text;
        let next = move || {
            if rest.is_empty() {
                return None;
            }
            let end = rest.bytes().position(|byte| self.is_separator(byte)).unwrap_or(rest.len());
            let component = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            Some(component)
        };
        std::iter::from_fn(next).filter(|component| !matches!(*component, "" | "."))
    }

    /// If this path is `parent` or below it, returns the number of the parent's components and the ones below it.
    pub(super) fn below(self, parent: Path<'_>) -> Option<(usize, impl Iterator<Item = &'p str>)> {
        let mut own = self.components();
        let mut depth = 0;
        for component in parent.components() {
            if own.next() != Some(component) {
                return None;
            }
            depth += 1;
        }
        Some((depth, own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_paths_by_their_components() {
        for (path, parent, expected) in [
            ("/a/b/c", "/a/b", Some((2, "c"))),
            ("//a/./b//c/", "/a/", Some((1, "b/c"))),
            ("/a", "/a", Some((1, ""))),
            ("/a", "/", Some((0, "a"))),
            (r"C:\a\b", "/a", Some((1, "b"))),
            ("/a/b", "c:/a", Some((1, "b"))),
            (r"/a\b", "/a", None),
            ("/a", "/a/b", None),
            ("/ab", "/a", None),
            ("/a/b", "/a/../a", None),
        ] {
            let (path, parent) = (Path::absolute(path).unwrap(), Path::of_mount(parent).unwrap());
            let found = path.below(parent).map(|(depth, rest)| (depth, rest.collect::<Vec<_>>().join("/")));
            assert_eq!(found, expected.map(|(depth, rest)| (depth, rest.to_owned())), "{path:?} {parent:?}");
        }
    }

    #[test]
    fn a_path_that_leads_upwards_or_is_relative_is_none() {
        for path in ["", "a", "./a", "/a/..", "C:a", r"\a", r"C:\..\a"] {
            assert!(Path::absolute(path).is_none(), "{path}");
        }
        assert!(Path::in_volume("a/../b").is_none());
        assert_eq!(Path::in_volume("/a/./b").unwrap().components().collect::<Vec<_>>(), ["a", "b"]);
    }
}
