//! Reads the sources: a module uses only the layers above it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The modules by layer, from the top; those of one layer may use each other.
const LAYERS: [&[&str]; 6] = [
    &[
        "id",
        "clock",
        "value",
        "similar",
        "state",
        "event",
        "error",
        "log",
        "failpoint",
        "no_failpoint",
    ],
    &["task", "flow"],
    &["graph", "policy", "schedule"],
    &["store", "blob", "capture"],
    &["runtime", "scheduler", "worker", "notify"],
    &["cli", "why"],
];

/// What is known and meant to be mended, never added to: none.
const EXCEPTIONS: [(&str, &str); 0] = [];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The modules of the crate that a source names, as `crate::module` or in `use crate::{…}`.
fn used(source: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let boundary = code[..at].chars().next_back();
        if boundary.is_some_and(|character| {
            character.is_alphanumeric() || character == '$' || character == '_'
        }) {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let name = |text: &str| {
            text.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect::<String>()
        };
        match rest.strip_prefix('{') {
            None => modules.push(name(rest)),
            Some(list) => {
                let end = list.find('}').unwrap_or(list.len());
                modules.extend(list[..end].split(',').map(|item| name(item.trim())));
            }
        }
    }
    modules
}

#[test]
fn a_module_uses_only_the_layers_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../orchestrator/src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut offences = BTreeMap::new();
    let mut checked = 0;
    for file in files {
        let place = file.strip_prefix(&root).unwrap().to_owned();
        let first = place
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        if first == "lib" {
            continue;
        }
        let own = layer(&first)
            .unwrap_or_else(|| panic!("the module `{first}` is in no layer: add it to this test"));
        for module in used(&std::fs::read_to_string(&file).unwrap()) {
            let Some(other) = layer(&module) else {
                continue;
            };
            checked += 1;
            if other > own && !EXCEPTIONS.contains(&(first.as_str(), module.as_str())) {
                offences.insert(format!("{} uses `{module}`", place.display()), ());
            }
        }
    }
    assert!(
        checked > 100,
        "only {checked} uses were found: does the test still read the sources?"
    );
    assert!(
        offences.is_empty(),
        "uses of layers below: {:#?}",
        offences.keys().collect::<Vec<_>>()
    );
}
