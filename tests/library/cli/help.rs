//! The help, the README and the docs describe the commands in the same words.

use super::Program;

const README: &str = include_str!("../../../README.md");
const DOCS: &str = include_str!("../../../orchestrator/src/cli/mod.rs");

/// The commands that the help lists, with their descriptions.
fn listed(help: &str) -> Vec<(&str, String)> {
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let mut listed: Vec<(&str, String)> = Vec::new();
    for line in commands.lines().take_while(|line| !line.is_empty()) {
        let words = match line
            .strip_prefix("  ")
            .filter(|line| !line.starts_with(' '))
        {
            Some(line) => {
                let (name, words) = line.split_once(' ').unwrap_or((line, ""));
                listed.push((name, String::new()));
                words
            }
            None => line,
        };
        let (_, description) = listed.last_mut().unwrap();
        for word in words.split_whitespace() {
            if !description.is_empty() {
                description.push(' ');
            }
            description.push_str(word);
        }
    }
    for (_, description) in &mut listed {
        if let Some(alias) = description.find(" [alias") {
            description.truncate(alias);
        }
    }
    listed
}

/// The rows of the table of commands in a text: a command with its description.
fn rows(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(|line| line.trim_start_matches("///").trim())
        .skip_while(|line| *line != "| command | description |")
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let row = line.trim_matches('|').replace("\\|", "/");
            let (command, description) = row.split_once('|').unwrap();
            let command = command.trim().trim_matches('`');
            (command.to_owned(), description.trim().to_owned())
        })
        .collect()
}

#[test]
fn commands_are_described_in_the_same_words_everywhere() {
    let program = Program::new();
    let said = program.say("--help");
    let listed = listed(&said.out);
    assert!(listed.len() > 10, "{}", said.out);
    for (place, text) in [("README.md", README), ("the docs of `Cli`", DOCS)] {
        let rows = rows(text);
        for (name, description) in &listed {
            let is_described = rows.iter().any(|(command, row)| {
                command.split(' ').next() == Some(name) && row.starts_with(description)
            });
            assert!(
                is_described,
                "{place} does not describe `{name}` as \"{description}\": {rows:?}"
            );
        }
    }
}
