//! The command line: a program (`tests/cli/pipelines.rs`) is run as people run theirs, in a folder
//! of its own.

mod backfills;
mod beside;
mod deployments;
mod errors;
mod given;
mod help;
mod looking;
mod reading;
mod running;
mod screen;
mod shapes;
mod stored;
mod terminal;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::new_folder;

/// How long is waited for another process.
const DEADLINE: Duration = Duration::from_secs(60);

/// The program, in a folder that no other test has.
struct Program {
    folder: PathBuf,
    pool: bool,
    /// Which deployments are given to its command line; empty for the usual one.
    serves: &'static str,
}

/// What a command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Program {
    fn new() -> Self {
        Self {
            folder: new_folder("cli"),
            pool: false,
            serves: "",
        }
    }

    /// With other deployments than the usual one.
    fn that_serves(serves: &'static str) -> Self {
        Self {
            serves,
            ..Self::new()
        }
    }

    /// With the pool that one of the flows needs.
    fn with_pool() -> Self {
        Self {
            pool: true,
            ..Self::new()
        }
    }

    /// What is typed is split at white space.
    fn command(&self, typed: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipelines"));
        command
            .args(typed.split_whitespace())
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        for variable in [
            "NO_COLOR",
            "CLICOLOR_FORCE",
            "ORCHESTRATOR_STORE",
            "PIPELINES_POOL",
        ] {
            command.env_remove(variable);
        }
        command
            .env("PIPELINES_SERVES", self.serves)
            .env("ORCHESTRATOR_CONN_SHOP", "http://127.0.0.1:1")
            .env("ORCHESTRATOR_VAR_SHOP_ROWS", "7")
            .env("ORCHESTRATOR_SECRET_SHOP_KEY", "k-123456789");
        if self.pool {
            command
                .env("PIPELINES_POOL", "1")
                .env("ORCHESTRATOR_STORE", "sqlite:.orchestrator/state.db");
        }
        command
    }

    fn say(&self, typed: &str) -> Said {
        Said::from(self.command(typed).output().unwrap())
    }

    /// What a command prints that goes well, with ids and times replaced.
    fn text(&self, typed: &str) -> String {
        let said = self.say(typed);
        assert_eq!(said.code, 0, "{typed}: {said:?}");
        plain(&said.out)
    }

    fn json(&self, typed: &str) -> Value {
        let said = self.say(typed);
        assert!(said.code <= 1, "{typed}: {said:?}");
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{typed}: {error}: {said:?}"))
    }

    /// The id of the latest run of a flow.
    fn latest(&self, flow: &str) -> String {
        let runs = self.json(&format!("runs --flow {flow} --limit 1 --json"));
        runs[0]["id"]
            .as_str()
            .unwrap_or_else(|| panic!("no run of {flow}"))
            .to_owned()
    }

    fn state(&self, run: &str) -> String {
        self.json(&format!("runs show {run} --json"))["state"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// The state of a task; empty where there is none yet.
    fn task_state(&self, run: &str, key: &str) -> String {
        let run = self.json(&format!("runs show {run} --json"));
        let tasks = run["tasks"].as_array().unwrap();
        let task = tasks.iter().find(|task| task["key"] == key);
        task.map_or_else(String::new, |task| {
            task["state"].as_str().unwrap().to_owned()
        })
    }

    fn start(&self, typed: &str) -> Started {
        let child = self
            .command(typed)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Started(Some(child))
    }

    /// Serves until something is so.
    fn serve_until(&self, what: &str, is_so: impl FnMut() -> bool) {
        let serving = self.start("serve");
        eventually(what, is_so);
        serving.signal("-TERM");
        let said = serving.end();
        assert_eq!(said.code, 0, "{said:?}");
    }

    /// Serves until a deployment of a flow is on record, with these schedules.
    fn put_on_record(&self, flow: &str, schedules: &[&str]) {
        self.serve_until("the deployment is on record", || {
            self.has_store()
                && self
                    .json(&format!("deployments ls {flow} --json"))
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|deployment| deployment["schedules"] == serde_json::json!(schedules))
        });
    }

    fn has_store(&self) -> bool {
        self.folder.join(".orchestrator").exists()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// A process that goes on; it is killed where its test fails.
struct Started(Option<Child>);

impl Started {
    fn signal(&self, signal: &str) {
        let pid = self.0.as_ref().unwrap().id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn is_over(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// What it prints, as it comes.
    fn heard(&mut self) -> Heard {
        Heard::from(self.0.as_mut().unwrap().stdout.take().unwrap())
    }

    fn end(mut self) -> Said {
        Said::from(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What another process says, as it comes.
struct Heard {
    bytes: Arc<Mutex<Vec<u8>>>,
    listens: JoinHandle<()>,
}

impl Heard {
    /// Hears what is read until there is no more, or until it fails: so a terminal says that
    /// everybody has left it.
    fn from(mut source: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&bytes);
        let listens = std::thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(read @ 1..) = source.read(&mut some) {
                heard.lock().unwrap().extend(&some[..read]);
            }
        });
        Self { bytes, listens }
    }

    /// What was said up to now.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// All that was said.
    fn all(self) -> String {
        let Self { bytes, listens } = self;
        listens.join().unwrap();
        String::from_utf8(std::mem::take(&mut bytes.lock().unwrap())).unwrap()
    }
}

/// Waits until something is so.
#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(
            started.elapsed() < DEADLINE,
            "{what}: not within {DEADLINE:?}"
        );
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing else is to be done meanwhile"
        )]
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A text with `ID` for ids, `TIME` for instants, `TOOK` for durations, and one space for many.
fn plain(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let words: Vec<String> = line.split_whitespace().map(plain_word).collect();
        let indent = line.len() - line.trim_start().len();
        format!("{}{}\n", " ".repeat(indent), words.join(" "))
    });
    lines.collect()
}

fn plain_word(word: &str) -> String {
    let core = word.trim_matches(['`', '(', ')', ',', ';', ':', '.']);
    let is_end = core.len() == 8 && core.bytes().all(|byte| byte.is_ascii_hexdigit());
    let kind =
        if is_end || (core.len() == 36 && core.bytes().filter(|byte| *byte == b'-').count() == 4) {
            "ID"
        } else if core.len() >= 20 && core.as_bytes()[10] == b'T' && core.starts_with("20") {
            "TIME"
        } else if is_duration(core) {
            "TOOK"
        } else {
            return word.to_owned();
        };
    word.replacen(core, kind, 1)
}

fn is_duration(word: &str) -> bool {
    let number = word.trim_end_matches(char::is_alphabetic);
    let unit = &word[number.len()..];
    matches!(unit, "ms" | "s")
        && !number.is_empty()
        && number
            .chars()
            .all(|c| c.is_ascii_digit() || c == '.' || c == 'm')
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
