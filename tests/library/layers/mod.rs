//! Reads the sources: a module uses only the layers above it, and folders and files do not use each
//! other in rings.

mod rings;
mod source;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rings::{Ring, by_folder};
use tree::Crate;

/// The rings of folders that there are: to be mended, never added to.
const RINGS_OF_FOLDERS: [(&str, &[&str]); 3] = [
    // the guard against panics makes errors of them, and errors guard what they hold
    ("orchestrator/src/", &["error/", "panic"]),
    // the fallback of a mistake keeps a signature, and a signature that is wrong falls back
    (
        "orchestrator-macros/src/attribute/",
        &["fallback", "signature/"],
    ),
    // what a body writes down names definitions, and the call of a flow gives what its body wrote
    ("orchestrator/src/", &["definition/", "scope/"]),
];

/// How many pairs of files of a folder use each other, directly or through others: to become fewer,
/// never more. Folders that are not named have none.
const PAIRS_OF_FILES: [(&str, usize); 6] = [
    ("orchestrator/src/cli/", 1),
    ("orchestrator/src/graph/", 1),
    ("orchestrator/src/scheduler/", 1),
    ("orchestrator/src/task/", 3),
    ("orchestrator/src/value/", 3),
    ("orchestrator/src/why/", 6),
];

const ROOTS: [&str; 2] = ["orchestrator/src/", "orchestrator-macros/src/"];

/// The crates at [`ROOTS`].
static CRATES: LazyLock<[Crate; 2]> =
    LazyLock::new(|| ROOTS.map(|root| Crate::read(&project().join(root))));

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The modules by layer, from the top, as ARCHITECTURE.md lists them; the names of folders end with
/// a slash. Those of one layer may use each other.
fn layers() -> Vec<Vec<String>> {
    let page = std::fs::read_to_string(project().join("ARCHITECTURE.md")).unwrap();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| layer | modules |"))
        .skip(2);
    let cells = rows.map_while(|row| row.strip_prefix('|')?.split('|').nth(1));
    let modules = cells.map(|cell| {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    });
    modules.collect()
}

/// The modules of the library's root; the names of folders end with a slash.
fn modules(library: &Crate) -> BTreeSet<String> {
    let paths = (0..library.files.len()).map(|file| library.path(file));
    paths.filter_map(|path| path.into_iter().next()).collect()
}

#[test]
fn architecture_lists_each_module_once() {
    let listed: Vec<String> = layers().concat();
    let mut unique: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(
        listed.len(),
        unique.len(),
        "a module has two layers: {listed:?}"
    );
    let there = modules(&CRATES[0]);
    let missing: Vec<&String> = there.difference(&unique).collect();
    assert!(
        missing.is_empty(),
        "modules without a layer in ARCHITECTURE.md: {missing:?}"
    );
    unique.retain(|module| !there.contains(module));
    assert!(
        unique.is_empty(),
        "modules of ARCHITECTURE.md that are not there: {unique:?}"
    );
}

#[test]
fn module_uses_only_the_layers_above_it() {
    let (library, layers) = (&CRATES[0], layers());
    let layer = |file: usize| {
        let module = library.path(file).into_iter().next()?;
        layers.iter().position(|modules| modules.contains(&module))
    };
    let edges = library.edges();
    assert!(
        edges.len() > 500,
        "only {} uses were found: are the sources still read?",
        edges.len()
    );
    let place = |file: usize| &library.files[file].place;
    let offences: BTreeSet<String> = edges
        .iter()
        .filter(|edge| layer(edge.to) > layer(edge.from) && layer(edge.from).is_some())
        .map(|edge| format!("`{}` uses `{}`", place(edge.from), place(edge.to)))
        .collect();
    assert!(offences.is_empty(), "uses of layers below: {offences:#?}");
}

/// The rings of each folder, with the crate's folder before its own.
fn all_rings() -> BTreeMap<String, Vec<Ring>> {
    let of = |(root, read): (&str, &Crate)| {
        let folders = by_folder(read).into_iter();
        let folders = folders.map(|(folder, rings)| (format!("{root}{folder}"), rings));
        folders.collect::<Vec<_>>()
    };
    ROOTS.into_iter().zip(&*CRATES).flat_map(of).collect()
}

fn has_folder(ring: &Ring) -> bool {
    ring.iter().any(|name| name.ends_with('/'))
}

#[test]
fn folders_use_each_other_in_one_direction() {
    let rings = all_rings();
    let found: BTreeSet<(&str, Vec<&str>)> = rings
        .iter()
        .flat_map(|(folder, rings)| rings.iter().map(|ring| (folder.as_str(), ring)))
        .filter(|(_, ring)| has_folder(ring))
        .map(|(folder, ring)| (folder, ring.iter().map(String::as_str).collect()))
        .collect();
    let known = RINGS_OF_FOLDERS.map(|(folder, ring)| (folder, ring.to_vec()));
    let known = BTreeSet::from(known);
    let added: Vec<_> = found.difference(&known).collect();
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(
        added.is_empty() && gone.is_empty(),
        "the folders that use each other are not those of RINGS_OF_FOLDERS\n\
         new, or with other members, which is allowed only if they are fewer: {added:#?}\n\
         gone, to be taken from the list: {gone:#?}"
    );
}

#[test]
fn files_of_a_folder_get_no_new_rings() {
    let pairs = |rings: &Vec<Ring>| -> usize {
        let of_files = rings.iter().filter(|ring| !has_folder(ring));
        of_files.map(|ring| ring.len() * (ring.len() - 1) / 2).sum()
    };
    let rings = all_rings();
    let known = BTreeMap::from(PAIRS_OF_FILES);
    let folders = rings
        .keys()
        .map(String::as_str)
        .chain(known.keys().copied());
    for folder in folders.collect::<BTreeSet<_>>() {
        assert!(
            project().join(folder).is_dir(),
            "PAIRS_OF_FILES: there is no folder `{folder}`"
        );
        let found = rings.get(folder).map_or(0, pairs);
        let listed = known.get(folder).copied().unwrap_or_default();
        let members = rings
            .get(folder)
            .into_iter()
            .flatten()
            .filter(|ring| !has_folder(ring));
        let members: Vec<&Ring> = members.collect();
        assert!(
            found <= listed,
            "`{folder}`: {found} pairs of files use each other, and PAIRS_OF_FILES allows \
             {listed}: {members:#?}"
        );
        assert!(
            found == listed && (listed > 0 || !known.contains_key(folder)),
            "`{folder}`: {found} pairs of files use each other, fewer than the {listed} of \
             PAIRS_OF_FILES: lower it"
        );
    }
}
