//! What uses each other in a ring: directly, or through others.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Crate;

/// Names that use each other, in order.
pub(super) type Ring = BTreeSet<String>;

/// The rings of a graph.
pub(super) fn rings(edges: &BTreeSet<(String, String)>) -> Vec<Ring> {
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, _) in edges {
        let mut seen = BTreeSet::new();
        let mut open = vec![from.as_str()];
        while let Some(next) = open.pop() {
            let direct = edges
                .iter()
                .filter(|(of, _)| of == next)
                .map(|(_, to)| to.as_str());
            open.extend(direct.filter(|to| seen.insert(*to)));
        }
        reached.insert(from, seen);
    }
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|seen| seen.contains(to));
    let ring_of = |name: &&str| -> Ring {
        let others = reached[name].iter().filter(|other| reaches(other, name));
        others.map(|other| (*other).to_owned()).collect()
    };
    let found: BTreeSet<Ring> = reached
        .keys()
        .map(ring_of)
        .filter(|ring| ring.len() > 1)
        .collect();
    found.into_iter().collect()
}

/// The rings among what is directly in each folder of a crate, tests apart: files, and folders,
/// whose names end with a slash. The file of a folder itself (`mod.rs`) is no part of a ring: it
/// joins what is in the folder.
pub(super) fn by_folder(of: &Crate) -> BTreeMap<String, Vec<Ring>> {
    let mut edges: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for edge in of.edges().into_iter().filter(|edge| !edge.is_test) {
        let [from, to] = [edge.from, edge.to].map(|file| of.path(file));
        let common = from
            .iter()
            .zip(&to)
            .take_while(|(from, to)| from == to)
            .count();
        if let (Some(one), Some(other)) = (from.get(common), to.get(common)) {
            let folder = from[..common].concat();
            edges
                .entry(folder)
                .or_default()
                .insert((one.clone(), other.clone()));
        }
    }
    let rings = edges
        .into_iter()
        .map(|(folder, edges)| (folder, rings(&edges)));
    rings.filter(|(_, rings)| !rings.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::Crate;
    use super::{by_folder, rings};

    fn shown(edges: &str) -> Vec<String> {
        let edges = edges.split(", ").map(|edge| edge.split_once(' ').unwrap());
        let edges = edges
            .map(|(from, to)| (from.to_owned(), to.to_owned()))
            .collect();
        let rings = rings(&edges).into_iter();
        rings
            .map(|ring| ring.into_iter().collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn rings_are_found_through_others() {
        assert_eq!(shown("a b, b c, a c"), [""; 0]);
        assert_eq!(shown("a b, b a"), ["a b"]);
        assert_eq!(shown("a b, b c, c a, d a, c e"), ["a b c"]);
        assert_eq!(shown("a b, b a, b c, c d, d c"), ["a b", "c d"]);
        assert_eq!(shown("a b, b a, b c, c b"), ["a b c"]);
    }

    fn of_crate<const N: usize>(sources: [(&str, &str); N]) -> Vec<String> {
        let sources = sources.map(|(place, text)| (place.to_owned(), text.to_owned()));
        let found = by_folder(&Crate::new(sources)).into_iter();
        let shown = found.map(|(folder, rings)| format!("{folder}: {rings:?}"));
        shown.collect()
    }

    #[test]
    fn folders_are_in_a_ring_by_any_of_their_files() {
        let found = of_crate([
            ("lib", "mod a; mod b; mod c;"),
            ("a/mod", "mod one; mod two;"),
            ("a/one", "use crate::b::B;"),
            ("a/two", ""),
            ("b/mod", "mod deep;"),
            ("b/deep/mod", "use crate::c::C;"),
            ("c", "use crate::a::two::T;"),
        ]);
        assert_eq!(found, [r#": [{"a/", "b/", "c"}]"#]);
    }

    #[test]
    fn files_are_in_a_ring_by_what_their_folder_re_exports() {
        let found = of_crate([
            ("lib", "mod a;"),
            ("a/mod", "mod one; mod two; mod three; pub use one::One;"),
            ("a/one", "use super::two::Two;"),
            (
                "a/two",
                "use super::One; #[cfg(test)] mod tests { use crate::a::three; }",
            ),
            ("a/three", "use super::two;"),
        ]);
        assert_eq!(found, [r#"a/: [{"one", "two"}]"#]);
    }

    #[test]
    fn a_folder_may_use_its_own_files_and_these_the_folder() {
        let found = of_crate([
            ("lib", "mod a; use a::A;"),
            ("a/mod", "mod one; use one::One; struct A;"),
            ("a/one", "use super::A; use crate::f;"),
        ]);
        assert_eq!(found, [""; 0]);
    }
}
