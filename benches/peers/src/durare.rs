//! durare 0.5 on SQLite, a program of its own (`benches/peers-durable`): it is built, started for
//! each file, and asked for a pass by a line. It measures each pass by itself, so that asking costs
//! nothing; while the others have their turns it waits for a line.
//!
//! Its connections are as many as are faster for the shape: one for a chain, its default of five
//! for a fan-out. It has no mapping.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use benches::{
    Shape,
    durable::{Contender, Open, Pass, Passes},
};

pub(crate) const CONTENDER: Contender = Contender {
    name: "durare",
    runs,
    open,
};

struct Durare {
    shape: Shape,
    process: Child,
    /// Its end is the process's.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

fn runs(shape: Shape) -> bool {
    matches!(shape, Shape::Chain(_) | Shape::FanOut(_))
}

fn open(shape: Shape, folder: PathBuf) -> Open {
    Box::pin(async move {
        let connections = if matches!(shape, Shape::Chain(_)) {
            "1"
        } else {
            "5"
        };
        let mut command = Command::new(program());
        command
            .arg(folder.join("durare.db"))
            .arg(connections)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn().expect("the program was built");
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("its output is a pipe"));
        Box::new(Durare {
            shape,
            process,
            questions,
            answers,
        }) as Box<dyn Passes>
    })
}

/// Builds the program, once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers-durable/Cargo.toml");
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        // its own folder: nothing that was built for the one workspace is thrown away for the other
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or(target, PathBuf::from)
            .join("peers-durable");
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["build", "--release", "--locked", "--manifest-path"])
            .arg(manifest);
        let built = command
            .arg("--target-dir")
            .arg(&target)
            .status()
            .expect("cargo can be started");
        assert!(built.success(), "durare's program cannot be built");
        target.join("release/benches-peers-durable")
    })
}

impl Passes for Durare {
    fn pass(&mut self) -> Pass<'_> {
        Box::pin(async {
            let question = match self.shape {
                Shape::Chain(length) => format!("chain {length}\n"),
                Shape::FanOut(width) => format!("fan-out {width}\n"),
                other => unreachable!("durare does not run {other}"),
            };
            let questions = self
                .questions
                .as_mut()
                .expect("they end with the process alone");
            questions
                .write_all(question.as_bytes())
                .expect("the process listens");
            let mut answer = String::new();
            self.answers
                .read_line(&mut answer)
                .expect("the process answers");
            let (nanos, value) = answer.trim().split_once(' ').expect("a time and a value");
            assert_eq!(
                value.parse(),
                Ok(self.shape.expected()),
                "durare on {}",
                self.shape
            );
            Duration::from_nanos(nanos.parse().expect("a time"))
        })
    }
}

impl Drop for Durare {
    fn drop(&mut self) {
        drop(self.questions.take());
        let _ = self.process.wait();
    }
}
