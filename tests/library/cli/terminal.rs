//! Colours and bars, which are for people at a terminal.

use std::fs::File;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::screen::Screen;
use super::{Heard, Program, Started, eventually, path};

/// The rows and columns of a terminal.
const SIZE: (u16, u16) = (12, 72);

/// Starts the program at a terminal of its own: the process, and what is seen on the terminal.
fn start(program: &Program, typed: &str, variables: &[(&str, &str)]) -> (Started, Heard) {
    start_with(program, typed, |command| {
        command.envs(variables.iter().copied());
        true
    })
}

/// The same; `of` says whether standard output is the terminal.
fn start_with(
    program: &Program,
    typed: &str,
    of: impl FnOnce(&mut Command) -> bool,
) -> (Started, Heard) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let line =
        rustix::fs::open(ptsname(&screen, Vec::new()).unwrap(), flags, Mode::empty()).unwrap();
    let line = File::from(line);
    let (ws_row, ws_col) = SIZE;
    tcsetwinsize(
        &line,
        Winsize {
            ws_row,
            ws_col,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
    .unwrap();
    let mut command = program.command(typed);
    command.env("TERM", "xterm-256color").env_remove("CLICOLOR");
    let out = if of(&mut command) {
        Stdio::from(line.try_clone().unwrap())
    } else {
        Stdio::piped()
    };
    command
        .stdin(line.try_clone().unwrap())
        .stdout(out)
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
fn terminal_has_a_bar_and_colours_unless_no_color_is_set() {
    for (variables, coloured) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let _case = crate::support::case(format_args!("{variables:?}"));
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

fn screen(text: &str) -> Screen {
    Screen::of(SIZE.0.into(), SIZE.1.into(), text)
}

/// Each line that tasks print, whole.
fn printed() -> Vec<String> {
    let of = |number| {
        [
            format!("printed {number}"),
            format!("complained {number}"),
            format!("half and half {number}"),
        ]
    };
    let more = ["of a child", "a child complains"].map(str::to_owned);
    (0..20).flat_map(of).chain(more).collect()
}

#[test]
fn output_of_tasks_is_printed_above_the_bar() {
    let program = Program::new();
    let file = program.file("there");
    let (running, seen) = start(&program, &format!("run noisy -p file={}", path(&file)), &[]);
    eventually("all is printed", || seen.text().contains("half 19"));
    eventually("there is a bar", || has_bar(&screen(&seen.text()).row(11)));
    let shown = screen(&seen.text());
    assert_eq!(shown.region(), (0, 10));
    let lines = shown.lines();
    let (bar, above) = lines.split_last().unwrap();
    assert!(has_bar(bar) && bar.contains("print_all"), "{bar:?}");
    assert!(!above.iter().any(|line| has_bar(line)), "{above:#?}");
    for line in printed() {
        assert!(above.contains(&line), "{line}: {above:#?}");
    }
    let is_logged = |line: &&String| {
        line.contains(" print_all: logged ") && line.ends_with(|c: char| c.is_ascii_digit())
    };
    assert_eq!(above.iter().filter(is_logged).count(), 20, "{above:#?}");
    std::fs::write(&file, "").unwrap();
    let (code, seen) = (running.end().code, seen.all());
    let (shown, lines) = (screen(&seen), screen(&seen).lines());
    assert_eq!((code, shown.region()), (0, (0, 11)));
    assert!(!lines.iter().any(|line| has_bar(line)), "{lines:#?}");
    for line in printed().iter().map(String::as_str).chain(["20"]) {
        assert_eq!(
            lines.iter().filter(|said| *said == line).count(),
            1,
            "{line}: {lines:#?}"
        );
    }
}

#[test]
fn piped_output_is_the_result_alone() {
    let program = Program::new();
    let file = program.file("there");
    std::fs::write(&file, "").unwrap();
    let (running, seen) = start_with(
        &program,
        &format!("run noisy -p file={}", path(&file)),
        |_| false,
    );
    let said = running.end();
    assert_eq!((said.code, &*said.out), (0, "20\n"));
    assert!(
        screen(&seen.all())
            .lines()
            .contains(&"printed 0".to_owned())
    );
}

#[test]
fn a_run_that_is_stopped_gives_the_row_of_its_bar_back() {
    let program = Program::new();
    let file = program.file("never");
    let (running, seen) = start(&program, &format!("run slow -p file={}", path(&file)), &[]);
    eventually("there is a bar", || has_bar(&seen.text()));
    running.signal("-TERM");
    eventually("it heard the signal", || seen.text().contains("stopping"));
    running.signal("-TERM");
    running.end();
    let shown = screen(&seen.all());
    assert_eq!(shown.region(), (0, 11));
    assert!(
        !shown.lines().iter().any(|line| has_bar(line)),
        "{:#?}",
        shown.lines()
    );
}

#[test]
fn pipe_has_neither_colours_nor_bar() {
    let program = Program::new();
    let file = program.file("there");
    std::fs::write(&file, "").unwrap();
    for (typed, code) in [
        (&*format!("run slow -p file={}", path(&file)), 0),
        (BACKFILL, 1),
    ] {
        let _case = crate::support::case(typed);
        let said = program.say(typed);
        assert_eq!(said.code, code, "{said:?}");
        let said = said.out + &said.err;
        assert!(!said.contains('\x1b') && !has_bar(&said), "{said:?}");
    }
}
