//! The JSON that commands print has the shape that their `--help` tells.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Program;

/// `{key, key: {…}, key: [{…}]}`.
#[derive(Clone, Debug, Default)]
struct Shape {
    is_list: bool,
    keys: BTreeMap<String, Option<Self>>,
}

impl Shape {
    /// The shapes that a text tells, in order.
    fn all_in(text: &str) -> Vec<Self> {
        let mut rest = text;
        let mut shapes = Vec::new();
        while let Some((before, after)) = rest.split_once('{') {
            let mut chars = after.chars();
            let shape = Self::read(&mut chars);
            shapes.push(Self {
                is_list: before.contains("an array of "),
                ..shape
            });
            rest = chars.as_str();
        }
        shapes
    }

    /// What comes after `{`.
    fn read(rest: &mut std::str::Chars<'_>) -> Self {
        let mut shape = Self::default();
        let (mut name, mut value, mut inner) = (String::new(), None::<String>, None);
        while let Some(c) = rest.next() {
            match (c, &mut value) {
                ('{', value) => {
                    let is_list = value.as_deref() == Some(" [");
                    inner = Some(Self {
                        is_list,
                        ..Self::read(rest)
                    });
                }
                (',' | '}', _) => {
                    shape
                        .keys
                        .insert(std::mem::take(&mut name).trim().to_owned(), inner.take());
                    value = None;
                    if c == '}' {
                        break;
                    }
                }
                (':', None) => value = Some(String::new()),
                (_, Some(value)) => value.push(c),
                (_, None) => name.push(c),
            }
        }
        shape
    }

    /// With the keys of another one, too.
    fn and(mut self, other: &Self) -> Self {
        self.keys.extend(other.keys.clone());
        self
    }

    /// Where a key has values of a shape that is told elsewhere.
    fn of(mut self, key: &str, inner: &Self) -> Self {
        *self.keys.get_mut(key).unwrap() = Some(Self {
            is_list: true,
            ..inner.clone()
        });
        self
    }

    /// Where a key may have no values.
    fn without(mut self, key: &str) -> Self {
        *self.keys.get_mut(key).unwrap() = None;
        self
    }

    /// With another shape of the values of a key.
    fn within(mut self, key: &str, change: impl FnOnce(Self) -> Self) -> Self {
        let inner = self.keys.get_mut(key).unwrap();
        *inner = inner.take().map(change);
        self
    }

    /// Looks at all values that have this shape; there must be one.
    fn check(&self, typed: &str, values: &[&Value]) {
        let expected: BTreeSet<&str> = self.keys.keys().map(String::as_str).collect();
        let mut inner: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        let mut seen = 0;
        for value in values.iter().filter(|value| !value.is_null()) {
            assert_eq!(value.is_array(), self.is_list, "{typed}: {value:#}");
            let one = std::slice::from_ref(*value);
            for object in value.as_array().map_or(one, Vec::as_slice) {
                let object = object
                    .as_object()
                    .unwrap_or_else(|| panic!("{typed}: {value:#}"));
                assert_eq!(
                    object.keys().map(String::as_str).collect::<BTreeSet<_>>(),
                    expected,
                    "{typed}"
                );
                seen += 1;
                for (key, value) in object {
                    inner.entry(key).or_default().push(value);
                }
            }
        }
        assert!(seen > 0, "{typed}: nothing has {expected:?}");
        for (key, shape) in &self.keys {
            if let Some(shape) = shape {
                shape.check(&format!("{typed}: {key}"), &inner[&**key]);
            }
        }
    }
}

/// What the help of a command tells, on one line.
fn help(program: &Program, command: &str) -> String {
    let said = program.say(&format!("{command} --help"));
    assert_eq!(said.code, 0, "{said:?}");
    said.out
}

fn told(program: &Program, command: &str) -> Vec<Shape> {
    let help = help(program, command);
    let (_, json) = help
        .split_once("\nJSON")
        .unwrap_or_else(|| panic!("{command}: {help}"));
    Shape::all_in(&json.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The commands whose help tells of JSON, with those of commands.
fn tell_of_json(program: &Program, command: &str) -> BTreeSet<String> {
    let help = help(program, command);
    let mut found = BTreeSet::new();
    found.extend(help.contains("\nJSON").then(|| command.to_owned()));
    let commands = help.split_once("Commands:\n").map_or("", |(_, rest)| rest);
    for line in commands.lines().take_while(|line| !line.is_empty()) {
        // what a line has no room for is further to the right
        let Some(name) = line
            .strip_prefix("  ")
            .and_then(|line| line.split(' ').next())
            .filter(|name| !name.is_empty())
        else {
            continue;
        };
        found.extend(tell_of_json(program, format!("{command} {name}").trim()));
    }
    found
}

#[test]
fn json_has_the_shape_that_the_help_describes() {
    let program = Program::new();
    program.put_on_record("etl", &["0 6 * * * in Europe/Zurich"]);
    for typed in [
        "etl",
        "mapped -p numbers=[2,3]",
        "cached -p customer=ada",
        "cached -p customer=eve",
    ] {
        program.say(&format!("run {typed}"));
    }
    let (mapped, cached) = (program.latest("mapped"), program.latest("cached"));
    program.say(&format!("runs rerun {mapped}"));
    let shape = |command: &str| told(&program, command).remove(0);
    let (runs, entries) = (shape("runs"), shape("cache ls"));
    let [filled, ticks] = told(&program, "backfill").try_into().unwrap();
    let [shown, with_attempts] = told(&program, "runs show").try_into().unwrap();
    let shown = Shape {
        is_list: false,
        ..runs.clone()
    }
    .and(&shown);
    let why = shape("why");
    // `others: [{differs_in, and what `cache ls` shows}]`
    let mut explained = shape("cache explain");
    let others = explained.keys["others"].clone().unwrap();
    assert_eq!(
        others.keys.keys().collect::<Vec<_>>(),
        ["and what `cache ls` shows", "differs_in"]
    );
    let mut others = others.and(&entries);
    others.keys.remove("and what `cache ls` shows");
    explained = explained.of("others", &others);
    let backfill = "backfill broken --schedule @daily --from 2026-01-01 --to 2026-01-02";
    let different = "backfill etl --from 2026-01-01 --to 2026-01-02 --param region=south";
    program.say("backfill etl --from 2026-01-01 --to 2026-01-02");
    let commands = [
        ("flows", "flows --json".to_owned(), shape("flows")),
        (
            "show",
            "show etl --json".to_owned(),
            shape("show")
                .without("requirements")
                .within("tasks", |tasks| tasks.without("requirements")),
        ),
        (
            "graph",
            "graph etl --format json".to_owned(),
            shape("graph").within("nodes", |nodes| nodes.without("requirements")),
        ),
        (
            "backfill",
            format!("{backfill} --json"),
            filled
                .clone()
                .of("unsuccessful", &ticks)
                .without("different"),
        ),
        (
            "backfill",
            format!("{different} --json"),
            filled.of("different", &ticks).without("unsuccessful"),
        ),
        ("backfill", format!("{backfill} --dry-run --json"), ticks),
        ("runs", "runs --json".to_owned(), runs),
        (
            "runs show",
            format!("runs show {mapped} --json"),
            shown.clone(),
        ),
        (
            "runs show",
            format!("runs show {mapped} --attempts --json"),
            shown.and(&with_attempts),
        ),
        (
            "runs logs",
            format!("runs logs {mapped} --json"),
            shape("runs logs"),
        ),
        (
            "why",
            format!("why {mapped} --json"),
            why.clone().of("causes", &why),
        ),
        ("next", "next etl --json".to_owned(), shape("next")),
        (
            "deployments ls",
            "deployments ls --json".to_owned(),
            shape("deployments ls"),
        ),
        ("cache ls", "cache ls --json".to_owned(), entries),
        (
            "cache explain",
            format!("cache explain {cached} score --json"),
            explained,
        ),
        ("db check", "db check --json".to_owned(), shape("db check")),
        ("check", "check --json".to_owned(), shape("check")),
        ("conn ls", "conn ls --json".to_owned(), shape("conn ls")),
        (
            "conn show",
            "conn show shop --json".to_owned(),
            shape("conn show"),
        ),
        (
            "conn test",
            "conn test shop --json".to_owned(),
            shape("conn test"),
        ),
        ("var ls", "var ls --json".to_owned(), shape("var ls")),
        (
            "var get",
            "var get shop_rows --json".to_owned(),
            shape("var get"),
        ),
        (
            "secret ls",
            "secret ls --json".to_owned(),
            shape("secret ls"),
        ),
    ];
    for (command, typed, shape) in &commands {
        if *command == "runs logs" {
            let said = program.say(typed).out;
            let lines: Vec<Value> = said
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            shape.check(typed, &lines.iter().collect::<Vec<_>>());
        } else {
            shape.check(typed, &[&program.json(typed)]);
        }
    }
    let all: BTreeSet<String> = commands
        .iter()
        .map(|(command, ..)| (*command).to_owned())
        .collect();
    assert_eq!(all, tell_of_json(&program, ""));
}
