//! Colours and bars, which are for people at a terminal.

use std::fs::File;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{Heard, Program, Started, eventually, path};

/// Starts the program at a terminal of its own: the process, and what is seen on the terminal.
fn start(program: &Program, typed: &str, variables: &[(&str, &str)]) -> (Started, Heard) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let line =
        rustix::fs::open(ptsname(&screen, Vec::new()).unwrap(), flags, Mode::empty()).unwrap();
    let line = File::from(line);
    let mut command = program.command(typed);
    command
        .env("TERM", "xterm-256color")
        .env_remove("CLICOLOR")
        .envs(variables.iter().copied());
    command
        .stdin(line.try_clone().unwrap())
        .stdout(line.try_clone().unwrap())
        .stderr(line);
    (
        Started(Some(command.spawn().unwrap())),
        Heard::from(File::from(screen)),
    )
}

/// Whether there is a bar: a part of it that is done, or one that is not.
fn has_bar(text: &str) -> bool {
    text.contains(['█', '░'])
}

/// Whether there are colours, or other styles: `ESC [ 31 m`.
fn has_colours(text: &str) -> bool {
    let escapes = text.split("\x1b[").skip(1);
    escapes.into_iter().any(|rest| {
        rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';')
            .starts_with('m')
    })
}

const BACKFILL: &str =
    "backfill broken --from 2026-01-01 --to 2026-01-20 --schedule @daily --reprocess all";

#[test]
fn colours_and_a_bar_are_on_a_terminal_and_no_colours_where_they_are_refused() {
    for (variables, coloured) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let program = Program::new();
        let file = program.file("there");
        let (running, seen) = start(
            &program,
            &format!("run slow -p file={}", path(&file)),
            variables,
        );
        eventually("there is a bar", || has_bar(&seen.text()));
        std::fs::write(&file, "").unwrap();
        let (code, seen) = (running.end().code, seen.all());
        assert_eq!((code, has_colours(&seen)), (0, coloured), "{seen:?}");
        let (filling, seen) = start(&program, BACKFILL, variables);
        let (code, seen) = (filling.end().code, seen.all());
        assert_eq!(
            (code, has_bar(&seen), has_colours(&seen)),
            (1, true, coloured),
            "{seen:?}"
        );
        assert!(
            seen.contains("\x1b["),
            "a bar is drawn over itself: {seen:?}"
        );
    }
}

#[test]
fn neither_is_in_a_pipe() {
    let program = Program::new();
    let file = program.file("there");
    std::fs::write(&file, "").unwrap();
    for (typed, code) in [
        (&*format!("run slow -p file={}", path(&file)), 0),
        (BACKFILL, 1),
    ] {
        let said = program.say(typed);
        assert_eq!(said.code, code, "{said:?}");
        let said = said.out + &said.err;
        assert!(!said.contains('\x1b') && !has_bar(&said), "{said:?}");
    }
}
