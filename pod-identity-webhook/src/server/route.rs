//! The paths of the server.

use pod_identity_core::inject::NamespaceSettings;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// A review of a pod in a namespace with these settings.
    Mutate(NamespaceSettings),
    /// A health check.
    Health,
}

impl Route {
    const ALL: [(&'static str, Self); 5] = [
        ("/mutate", Self::mutate(false, false)),
        ("/mutate/inject", Self::mutate(true, false)),
        ("/mutate/require", Self::mutate(false, true)),
        ("/mutate/inject/require", Self::mutate(true, true)),
        ("/healthz", Self::Health),
    ];

    const fn mutate(inject: bool, require: bool) -> Self {
        Self::Mutate(NamespaceSettings { inject, require })
    }

    /// Returns the route of a path, with the path as a static text.
    pub(super) fn of(path: &str) -> Option<(&'static str, Self)> {
        Self::ALL.into_iter().find(|(known, _)| *known == path)
    }

    /// Returns the paths of reviews.
    pub(super) fn reviews() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().filter(|(_, route)| matches!(route, Self::Mutate(_))).map(|(path, _)| path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_gives_the_settings_of_the_namespace() {
        let mutate = |inject, require| Some(Route::Mutate(NamespaceSettings { inject, require }));
        for (path, expected) in [
            ("/mutate", mutate(false, false)),
            ("/mutate/inject", mutate(true, false)),
            ("/mutate/require", mutate(false, true)),
            ("/mutate/inject/require", mutate(true, true)),
            ("/healthz", Some(Route::Health)),
            ("/mutate/", None),
            ("/mutate/require/inject", None),
            ("/Mutate", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(Route::of(path).map(|(_, route)| route), expected, "{path:?}");
        }
    }
}
