//! The imports between the modules of a crate have no cycles.
//!
//! The test reads `mod` declarations, `use` declarations, and paths in code that begin with `crate`, `super`, `self` or a
//! child module. An import of a re-exported item counts as an import of the module that defines the item. Code under
//! `#[cfg(test)]` does not count. There are two rules:
//!
//! 1. **Files.** The imports between modules have no cycles. A parent that only declares or re-exports a child
//!    (`mod child;`, `pub use child::Item;`) does not import it. A child may therefore use its parent's items, unless the
//!    parent's own code uses the child.
//! 2. **Subtrees.** The same holds for the children of each module, each with all modules below it. If a module in `token`
//!    imports a module in `error`, no module in `error` imports a module in `token`.
#![allow(clippy::unwrap_used)]

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use text::{is_name, tokens, without_tests};

type ModulePath = Vec<String>;

/// The declarations and paths of one file.
#[derive(Default)]
struct Module {
    children: BTreeSet<String>,
    /// Paths that the module uses.
    uses: Vec<ModulePath>,
    /// Imported names, each with its path.
    imports: BTreeMap<String, ModulePath>,
}

struct Crate(BTreeMap<ModulePath, Module>);

impl Crate {
    fn read(source: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let mut files = vec![(ModulePath::new(), source.join("lib.rs"), source.to_owned())];
        while let Some((path, file, below)) = files.pop() {
            let text =
                std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let module = Module::read(&text);
            for child in &module.children {
                let directory: PathBuf = below.join(child);
                files.push((
                    [&*path, std::slice::from_ref(child)].concat(),
                    directory.with_extension("rs"),
                    directory,
                ));
            }
            modules.insert(path, module);
        }
        Self(modules)
    }

    /// Returns the module that defines the item `path`, as seen from the module `from`. Returns `None` for other crates.
    fn defining(&self, from: &[String], path: &[String]) -> Option<ModulePath> {
        let (mut at, mut rest) = (from.to_vec(), path);
        match rest.first()?.as_str() {
            "crate" => (at, rest) = (ModulePath::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
            }
            first => _ = self.0.get(from)?.children.get(first)?,
        }
        while let Some(name) = rest.first() {
            let module = self.0.get(&at)?;
            // A re-exported function takes precedence over a private module of the same name.
            let renamed = module.imports.get(name).filter(|to| !(to.last() == Some(name) && to.len() == 1));
            match renamed {
                Some(to) if rest.len() == 1 || !module.children.contains(name) => {
                    return self.defining(&at, to).or(Some(at.clone()));
                }
                _ if module.children.contains(name) => at.push(name.clone()),
                _ => break,
            }
            rest = &rest[1..];
        }
        Some(at)
    }

    /// Returns the imports: pairs of a module and an imported module.
    fn edges(&self) -> BTreeSet<(ModulePath, ModulePath)> {
        let mut edges = BTreeSet::new();
        for (from, module) in &self.0 {
            let used = module.uses.iter().filter_map(|path| self.defining(from, path));
            edges.extend(used.filter(|to| to != from).map(|to| (from.clone(), to)));
        }
        edges
    }

    fn cycles(&self) -> Vec<String> {
        let edges = self.edges();
        let mut found = cycles_of(edges.iter().map(|(from, to)| (from.join("::"), to.join("::"))));
        for parent in self.0.keys() {
            let child = |path: &ModulePath| {
                path.starts_with(parent).then(|| path.get(parent.len()).cloned()).flatten()
            };
            let between = edges.iter().filter_map(|(from, to)| Some((child(from)?, child(to)?)));
            let below = |name: &str| [&**parent, &[name.to_owned()]].concat().join("::");
            found.extend(cycles_of(
                between.filter(|(from, to)| from != to).map(|(from, to)| (below(&from), below(&to))),
            ));
        }
        found.sort();
        found.dedup();
        found
    }
}

/// Returns the edges of each cycle, grouped by strongly connected nodes.
fn cycles_of(edges: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let edges: BTreeSet<_> = edges.collect();
    let mut reachable = edges.clone();
    loop {
        let added: BTreeSet<_> = reachable
            .iter()
            .flat_map(|(from, by)| {
                let next = edges.range((by.clone(), String::new())..).take_while(move |(next, _)| next == by);
                next.map(|(_, to)| (from.clone(), to.clone()))
            })
            .filter(|pair| !reachable.contains(pair))
            .collect();
        if added.is_empty() {
            break;
        }
        reachable.extend(added);
    }
    let is_cyclic = |from: &String, to: &String| reachable.contains(&(to.clone(), from.clone()));
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (from, to) in edges.iter().filter(|(from, to)| is_cyclic(from, to)) {
        // The smallest node identifies the group.
        let first =
            reachable.iter().filter(|(by, of)| by == from && is_cyclic(by, of)).map(|(_, of)| of).min();
        groups.entry(first.unwrap().clone()).or_default().push(format!("{from} -> {to}"));
    }
    groups.into_values().map(|group| group.join(", ")).collect()
}

impl Module {
    fn read(text: &str) -> Self {
        let tokens = without_tests(tokens(text));
        let mut module = Self::default();
        let mut rest = &*tokens;
        let mut code = Vec::new();
        let mut public = false;
        while let Some((token, after)) = rest.split_first() {
            let ends =
                |of: &[String], end: &str| of.iter().position(|token| token == end).unwrap_or(of.len());
            match token.as_str() {
                "mod" if after.get(1).is_some_and(|token| token == ";") => {
                    module.children.insert(after[0].clone());
                    rest = &after[2..];
                }
                "use" if after.first().is_some_and(|token| token != "<") => {
                    let end = ends(after, ";");
                    module.import(public, &after[..end]);
                    rest = after.get(end + 1..).unwrap_or_default();
                }
                "pub" => {
                    public = true;
                    rest = if after.first().is_some_and(|token| token == "(") {
                        &after[ends(after, ")") + 1..]
                    } else {
                        after
                    };
                    continue;
                }
                _ => {
                    code.push(token.clone());
                    rest = after;
                }
            }
            public = false;
        }
        module.paths(&code);
        module
    }

    /// Records a `use` declaration.
    fn import(&mut self, public: bool, tree: &[String]) {
        for (path, name) in branches(&ModulePath::new(), tree) {
            // A re-export does not count as an import. All relative paths are treated as children, because the list of
            // children is not complete yet.
            let relative = !["crate", "super"].contains(&path[0].as_str());
            if !(public && relative) {
                self.uses.push(path.clone());
            }
            self.imports.insert(name, path);
        }
    }

    /// Records the paths in code.
    fn paths(&mut self, code: &[String]) {
        for (index, token) in code.iter().enumerate() {
            let begins =
                ["crate", "super", "self"].contains(&token.as_str()) || self.children.contains(token);
            let inside = index > 0 && ["::", "."].contains(&code[index - 1].as_str());
            if !begins || inside || code.get(index + 1).is_none_or(|next| next != "::") {
                continue;
            }
            let mut path = vec![token.clone()];
            let mut rest = &code[index + 1..];
            while let [colons, name, ..] = rest
                && colons == "::"
                && is_name(name)
            {
                path.push(name.clone());
                rest = &rest[2..];
            }
            self.uses.push(path);
        }
    }
}

/// Returns the paths of a use tree, each with its imported name.
fn branches(before: &[String], tree: &[String]) -> Vec<(ModulePath, String)> {
    let (mut path, mut rest) = (before.to_vec(), tree);
    while let Some((token, after)) = rest.split_first() {
        match token.as_str() {
            "::" => {}
            "{" => {
                let (mut depth, mut start, mut found) = (0, 0, Vec::new());
                for (index, token) in after.iter().enumerate() {
                    match (token.as_str(), depth) {
                        ("{", _) => depth += 1,
                        ("}" | ",", 0) => {
                            found.extend(branches(&path, &after[start..index]));
                            start = index + 1;
                        }
                        ("}", _) => depth -= 1,
                        _ => {}
                    }
                }
                return found;
            }
            "as" => {
                let name = after[0].clone();
                return vec![(path, name)];
            }
            "self" if !path.is_empty() => {}
            "*" => return vec![(path, "*".to_owned())],
            name => path.push(name.to_owned()),
        }
        rest = after;
    }
    let name = path.last().cloned();
    name.filter(|_| path.len() > before.len() || !tree.is_empty())
        .map(|name| (path, name))
        .into_iter()
        .collect()
}

fn assert_no_cycles(name: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
    let modules = Crate::read(&source);
    assert!(
        modules.0.len() > 10 && modules.edges().len() > 10,
        "too few modules or imports of {name} were found"
    );
    let cycles = modules.cycles();
    assert!(cycles.is_empty(), "modules of {name} import each other:\n{}", cycles.join("\n"));
}

#[test]
fn core_has_no_import_cycles() {
    assert_no_cycles("pod-identity-core");
}

#[test]
fn runtime_has_no_import_cycles() {
    assert_no_cycles("pod-identity-runtime");
}

#[test]
fn auth_has_no_import_cycles() {
    assert_no_cycles("pod-identity-auth");
}

#[test]
fn agent_has_no_import_cycles() {
    assert_no_cycles("pod-identity-agent");
}

#[test]
fn webhook_has_no_import_cycles() {
    assert_no_cycles("pod-identity-webhook");
}

#[test]
fn provider_has_no_import_cycles() {
    assert_no_cycles("pod-identity-provider");
}

/// Returns the import cycles of a crate with these files.
fn cycles(files: &[(&str, &str)]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = directory.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    Crate::read(directory.path()).cycles()
}

#[test]
fn finds_a_cycle_through_re_exports_of_the_parent() {
    let token = "mod keys; mod verify; pub use keys::{KeySet, accepted}; pub use verify::verify;";
    let found = cycles(&[
        ("lib.rs", "pub mod token;"),
        ("token.rs", token),
        ("token/keys.rs", "use super::verify::Algorithm;\npub struct KeySet;"),
        ("token/verify.rs", "use super::{KeySet, accepted};\npub fn verify() {}"),
    ]);
    assert_eq!(found, ["token::keys -> token::verify, token::verify -> token::keys"]);
}

#[test]
fn child_may_use_its_parent_unless_the_parents_code_uses_the_child() {
    let child = ("a/b.rs", "use super::Item;\npub struct Part(Item);");
    for only_exports in
        ["mod b; pub use b::Part; struct Item;", "mod b; pub(crate) use self::b::Part; struct Item;"]
    {
        assert_eq!(cycles(&[("lib.rs", "mod a;"), ("a.rs", only_exports), child]), [""; 0]);
    }
    for uses in ["mod b; use b::Part; struct Item;", "mod b; struct Item; fn f() { b::Part::new() }"] {
        assert_eq!(cycles(&[("lib.rs", "mod a;"), ("a.rs", uses), child]), ["a -> a::b, a::b -> a"]);
    }
}

#[test]
fn finds_a_cycle_between_subtrees() {
    let found = cycles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "mod one; mod two;"),
        ("a/one.rs", "fn f() -> crate::b::Thing {}"),
        ("a/two.rs", ""),
        ("b.rs", "mod three; pub struct Thing;"),
        ("b/three.rs", "use crate::a::two;"),
    ]);
    assert_eq!(found, ["a -> b, b -> a"]);
}

#[test]
fn ignores_comments_literals_and_tests() {
    let b = r##"
        // use crate::a::X;
        /* crate::a::X */
        const TEXT: &str = "crate::a \" crate::a"; const RAW: &str = r#"crate::a"#; const C: char = '"';
        fn f<'a>() {}
        #[cfg(test)]
        use crate::a::X;
        #[cfg(all(test, feature = "x"))]
        mod tests { use crate::a::X; }
    "##;
    assert_eq!(cycles(&[("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::f;"), ("b.rs", b)]), [""; 0]);
    let after = format!("{b} use crate::a::X;");
    assert_eq!(
        cycles(&[("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::f;"), ("b.rs", &after)]).len(),
        1
    );
}
