//! The files of a crate, and which of them uses which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::source::{self, Brings, Segments, Source, Use};

/// The sources of a crate.
#[derive(Debug)]
pub(super) struct Crate {
    pub(super) files: Vec<File>,
    /// The file of each module: those with a file of their own, and those inside of one.
    modules: BTreeMap<Segments, usize>,
    /// The modules that have files below them.
    folders: BTreeSet<Segments>,
    /// What each module imports under which name.
    imports: BTreeMap<Segments, Vec<(Brings, Segments)>>,
}

/// A file is a module.
#[derive(Debug)]
pub(super) struct File {
    /// Its path below `src`, without the ending.
    pub(super) place: String,
    pub(super) module: Segments,
    pub(super) is_test: bool,
    source: Source,
}

/// One file names something of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Whether that is in code for tests.
    pub(super) is_test: bool,
}

impl Crate {
    /// Reads the sources below a folder.
    pub(super) fn read(root: &Path) -> Self {
        let mut paths = Vec::new();
        list(root, &mut paths);
        let sources = paths.into_iter().map(|path| {
            let place = path.strip_prefix(root).unwrap().with_extension("");
            let place = place.to_str().unwrap().replace('\\', "/");
            (place, std::fs::read_to_string(&path).unwrap())
        });
        Self::new(sources)
    }

    pub(super) fn new(sources: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut files: Vec<File> = sources
            .into_iter()
            .map(|(place, text)| File {
                module: module(&place),
                source: source::read(&text),
                is_test: false,
                place,
            })
            .collect();
        files.sort_by(|a, b| a.place.cmp(&b.place));
        let (mut modules, mut tests) = (BTreeMap::new(), Vec::new());
        let mut imports: BTreeMap<Segments, Vec<(Brings, Segments)>> = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            // of two files for one module, by feature, either will do
            modules.insert(file.module.clone(), number);
            for declared in &file.source.modules {
                let module = [
                    &file.module[..],
                    &declared.within,
                    std::slice::from_ref(&declared.name),
                ];
                let module = module.concat();
                if declared.is_inline {
                    modules.insert(module, number);
                } else if declared.is_test {
                    tests.push(module);
                }
            }
            for Use {
                within,
                path,
                brings,
                ..
            } in &file.source.uses
            {
                let module = [&file.module[..], within].concat();
                if *brings != Brings::Nothing {
                    imports
                        .entry(module)
                        .or_default()
                        .push((brings.clone(), path.clone()));
                }
            }
        }
        for file in &mut files {
            file.is_test = tests.iter().any(|test| file.module.starts_with(test));
        }
        let above = |file: &File| file.module.split_last().map(|(_, above)| above.to_vec());
        Self {
            folders: files.iter().filter_map(above).collect(),
            files,
            modules,
            imports,
        }
    }

    /// The folders that a file is in, each with a slash at its end, and its module; the file of a
    /// folder itself has the folders alone.
    pub(super) fn path(&self, file: usize) -> Segments {
        let module = &self.files[file].module;
        let part = |end: usize| {
            let is_folder = self.folders.contains(&module[..end]);
            let slash = if is_folder { "/" } else { "" };
            format!("{}{slash}", module[end - 1])
        };
        (1..=module.len()).map(part).collect()
    }

    /// Which file uses which other one: the one that a path names, and the one that defines what it
    /// names, if the first one imports it from there.
    pub(super) fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (from, file) in self.files.iter().enumerate() {
            for used in &file.source.uses {
                let within = [&file.module[..], &used.within].concat();
                let Some(path) = self.absolute(&within, &used.path, true) else {
                    continue;
                };
                let is_test = file.is_test || used.is_test;
                for to in [
                    self.named(&path),
                    self.defining(&path, &mut BTreeSet::new()),
                ] {
                    if self.files[to].module != file.module {
                        edges.insert(Edge { from, to, is_test });
                    }
                }
            }
        }
        edges
    }

    /// A path from the root of the crate; none if it is of another crate, or of something local.
    fn absolute(&self, within: &[String], path: &[String], by_import: bool) -> Option<Segments> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([within, rest].concat()),
            "super" => {
                let (_, above) = within.split_last()?;
                match rest.first().is_some_and(|next| next == "super") {
                    true => self.absolute(above, rest, by_import),
                    false => Some([above, rest].concat()),
                }
            }
            _ if self.modules.contains_key(&[within, &path[..1]].concat()) => {
                Some([within, path].concat())
            }
            _ if by_import => {
                let imports = self.imports.get(within)?;
                let named = |brings: &Brings| matches!(brings, Brings::Name(name) if name == first);
                // an import may have the name of the crate that it is from
                let (_, target) = imports
                    .iter()
                    .find(|(brings, target)| named(brings) && target.first() != Some(first))?;
                let target = self.absolute(within, target, false)?;
                Some([&target[..], rest].concat())
            }
            _ => None,
        }
    }

    /// A path from the root, parted into the module that it names and what is in there.
    fn parted<'a>(&self, path: &'a [String]) -> (&'a [String], &'a [String]) {
        let is_module = |at: &usize| self.modules.contains_key(&path[..*at]);
        let end = (1..=path.len())
            .take_while(is_module)
            .last()
            .unwrap_or_default();
        path.split_at(end)
    }

    /// The file of the module that a path from the root names; the root's for a folder without one.
    fn named(&self, path: &[String]) -> usize {
        let (module, _) = self.parted(path);
        let root = || self.modules.get(&[][..]).copied().unwrap_or_default();
        self.modules.get(module).copied().unwrap_or_else(root)
    }

    /// The file that defines what a path from the root names: imports and re-exports are followed.
    fn defining(&self, path: &[String], passed: &mut BTreeSet<Segments>) -> usize {
        let (module, rest) = self.parted(path);
        if passed.insert(path.to_vec())
            && let Some((name, deeper)) = rest.split_first()
            && let Some(target) = self.imported(module, name, passed)
        {
            return self.defining(&[&target[..], deeper].concat(), passed);
        }
        self.named(path)
    }

    /// What a module imports under a name.
    fn imported(
        &self,
        module: &[String],
        name: &str,
        passed: &mut BTreeSet<Segments>,
    ) -> Option<Segments> {
        let imports = self.imports.get(module)?;
        let named = imports
            .iter()
            .find(|(brings, _)| matches!(brings, Brings::Name(own) if own == name));
        if let Some((_, target)) = named {
            return self.absolute(module, target, true);
        }
        let everything = imports
            .iter()
            .filter(|(brings, _)| *brings == Brings::Everything);
        let from = everything.filter_map(|(_, target)| self.absolute(module, target, true));
        for from in from {
            let path = [&from[..], &[name.to_owned()]].concat();
            if self.modules.contains_key(&path) {
                return Some(path);
            }
            if passed.insert(path)
                && let Some(target) = self.imported(&from, name, passed)
            {
                return Some(target);
            }
        }
        None
    }
}

fn list(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The module that a file is: `no_x` stands in for `x`, by feature.
fn module(place: &str) -> Segments {
    let mut module: Segments = place.split('/').map(str::to_owned).collect();
    let last = module.pop().unwrap();
    if !["lib", "mod"].contains(&last.as_str()) {
        module.push(last.trim_start_matches("no_").to_owned());
    }
    module
}

#[cfg(test)]
mod tests {
    use super::Crate;

    /// The edges of a crate, those of tests in brackets.
    fn edges<const N: usize>(sources: [(&str, &str); N]) -> Vec<String> {
        let sources = sources.map(|(place, text)| (place.to_owned(), text.to_owned()));
        let read = Crate::new(sources);
        let place = |number: usize| &read.files[number].place;
        let shown = read.edges().into_iter().map(|edge| match edge.is_test {
            true => format!("[{} {}]", place(edge.from), place(edge.to)),
            false => format!("{} {}", place(edge.from), place(edge.to)),
        });
        shown.collect()
    }

    #[test]
    fn paths_are_resolved_from_where_they_stand() {
        let found = edges([
            ("lib", "mod a; mod b;"),
            ("a/mod", "mod c; mod d; use c::C; fn f() { d::g() }"),
            ("a/c", "use super::d::D; fn f() { super::super::b::g() }"),
            (
                "a/d",
                "mod inner { use super::super::c::C; use self::own::O; mod own {} }",
            ),
            (
                "b",
                "use crate::a::{c::C, d}; fn f() { d::D::g(); std::a::h() }",
            ),
        ]);
        let expected = [
            "a/c a/d",
            "a/c b",
            "a/d a/c",
            "a/mod a/c",
            "a/mod a/d",
            "b a/c",
            "b a/d",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn re_exports_lead_to_the_file_that_defines() {
        let found = edges([
            (
                "lib",
                "pub use a::Thing; pub mod prelude { pub use crate::b::*; }",
            ),
            (
                "a/mod",
                "mod c; pub use c::Thing; pub use self::c::Other as Renamed;",
            ),
            ("a/c", "struct Thing; struct Other;"),
            ("b", "pub use crate::a::Renamed;"),
            ("d", "use crate::Thing;"),
            ("e", "use crate::prelude::Renamed;"),
            ("f", "use crate::a; fn f() { a::Thing::new() }"),
        ]);
        let expected = [
            "a/mod a/c",
            "b a/c",
            "b a/mod",
            "d a/c",
            "d lib",
            "e a/c",
            "e lib",
            "f a/c",
            "f a/mod",
            "lib a/c",
            "lib a/mod",
            "lib b",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn imports_that_name_each_other_end() {
        let found = edges([
            ("lib", "mod a; mod b;"),
            ("a", "pub use crate::b::*; pub use crate::b::X;"),
            ("b", "pub use crate::a::*; pub use crate::a::X;"),
        ]);
        assert_eq!(found, ["a b", "b a"]);
    }

    #[test]
    fn code_for_tests_is_told_from_other_code() {
        let found = edges([
            ("lib", "mod a; #[cfg(test)] mod suite;"),
            (
                "a",
                "#[cfg(test)] mod tests { use super::*; use crate::suite; }",
            ),
            ("suite/mod", "mod more;"),
            ("suite/more", "use crate::a::A;"),
        ]);
        assert_eq!(found, ["[a suite/mod]", "[suite/more a]"]);
    }

    #[test]
    fn a_stand_in_is_the_module_that_it_stands_in_for() {
        let found = edges([
            ("lib", "#[path = \"no_a.rs\"] mod a;"),
            ("a/mod", "mod b;"),
            ("a/b", ""),
            ("no_a", "use crate::a::b; use crate::c;"),
            ("c", ""),
        ]);
        assert_eq!(found, ["no_a a/b", "no_a c"]);
    }
}
