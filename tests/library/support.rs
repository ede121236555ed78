//! What the tests have in common: the store that they run on, how they serve, where their logs go,
//! and the names of their cases.

use std::fmt::{Debug, Display};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, Once, mpsc};
use std::time::Duration;

use orchestrator::{Clock, Runtime, RuntimeBuilder};
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Set to `sqlite`, all tests run on files of SQLite.
pub(crate) const STORE: &str = "TEST_STORE";

/// Whether runs outlive their runtime here.
pub(crate) fn is_durable() -> bool {
    std::env::var_os(STORE).is_some()
}

/// The URL of a store that no other test has.
pub(crate) fn store() -> String {
    if is_durable() {
        url(&file())
    } else {
        "memory".into()
    }
}

/// The file of a store that no other test has.
pub(crate) fn file() -> PathBuf {
    new_folder("store").join("state.db")
}

/// The URL of the store in a file.
pub(crate) fn url(file: &Path) -> String {
    format!("sqlite:{}", file.display())
}

/// A folder that no other test has; what a run of the tests leaves goes when they are run again.
pub(crate) fn new_folder(name: &str) -> PathBuf {
    capture_logs();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let root = std::env::temp_dir().join("orchestrator-tests");
    if NEXT.load(Ordering::Relaxed) == 0 {
        forget_old(&root);
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = root.join(format!("{name}-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Removes the folders of processes that are gone: the second last part of a folder's name is the
/// process.
fn forget_old(root: &PathBuf) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.rsplit('-').nth(1).unwrap_or_default();
        if Path::new("/proc").is_dir() && !Path::new("/proc").join(process).is_dir() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A runtime as `Runtime::in_memory()`, on the store of these tests.
pub(crate) fn runtime() -> Runtime {
    if is_durable() {
        build(builder())
    } else {
        Runtime::in_memory()
    }
}

/// The builder of a runtime on the store of these tests.
pub(crate) fn builder() -> RuntimeBuilder {
    capture_logs();
    Runtime::builder().store(store())
}

/// A store that was opened before, as another process opens it; a stop cuts off after the grace
/// period.
pub(crate) async fn open(store: &str, clock: &Clock, grace: Duration) -> Runtime {
    Runtime::builder()
        .store(store)
        .clock(clock.clone())
        .grace(grace)
        .build()
        .await
        .unwrap()
}

/// Acts while something is served, which must not end before.
pub(crate) async fn while_serving<T>(
    serve: impl IntoFuture<Output: Debug>,
    act: impl Future<Output = T>,
) -> T {
    tokio::select! {
        biased;
        stopped = serve.into_future() => panic!("it serves no more: {stopped:?}"),
        acted = act => acted,
    }
}

/// Serves for a time, and not less.
pub(crate) async fn serve_for(time: Duration, serve: impl IntoFuture<Output: Debug>) {
    while_serving(serve, tokio::time::sleep(time)).await;
}

/// Builds a runtime where nothing can be awaited, with tokio's clock.
fn build(builder: RuntimeBuilder) -> Runtime {
    let builder = builder.clock(Clock::tokio_from_now());
    let building = std::thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        tokio.block_on(builder.build()).unwrap()
    });
    building.join().unwrap()
}

/// Stores what runs log, and shows nothing of it: who serves on a file would show it, where nobody
/// listens yet.
///
/// One subscriber for all tests of this binary, since blocking bodies log on threads of their own.
/// What is on a store of these tests, or on a file, has it.
fn capture_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(orchestrator::log_layer());
        tracing::subscriber::set_global_default(subscriber)
            .expect("nobody listens before there is a store");
    });
}

/// Holds the thread that says `run finished`, once: by then the end of the run is committed.
struct Hold {
    is_armed: AtomicBool,
    reached: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

struct IsEnd(bool);

impl Visit for IsEnd {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 |= field.name() == "message" && format!("{value:?}").starts_with("run finished");
    }
}

impl<S: Subscriber> Layer<S> for Hold {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut is_end = IsEnd(false);
        event.record(&mut is_end);
        if is_end.0 && self.is_armed.swap(false, Ordering::SeqCst) {
            self.reached.send(()).unwrap();
            let _ = self
                .go_on
                .lock()
                .unwrap()
                .recv_timeout(Duration::from_secs(60));
        }
    }
}

/// A tokio runtime of which a thread is held when the first run has ended, and what tells of that
/// and lets it go on.
pub(crate) fn held() -> (
    tokio::runtime::Runtime,
    mpsc::Receiver<()>,
    mpsc::Sender<()>,
) {
    let ((reached, is_reached), (let_go, go_on)) = (mpsc::channel(), mpsc::channel());
    let hold = Hold {
        is_armed: AtomicBool::new(true),
        reached,
        go_on: Mutex::new(go_on),
    };
    let subscriber = Dispatch::new(
        tracing_subscriber::registry()
            .with(orchestrator::log_layer())
            .with(hold),
    );
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .on_thread_start(move || {
            Box::leak(Box::new(tracing::dispatcher::set_default(&subscriber)));
        })
        .build()
        .unwrap();
    (tokio, is_reached, let_go)
}

/// Names the case of a table that is being tested: a test that fails in it prints the name.
pub(crate) fn case(name: impl Display) -> Case {
    Case(name.to_string())
}

/// See [`case`].
pub(crate) struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the case that failed: {}", self.0);
        }
    }
}

/// A source of numbers that is the same each time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end
    }
}

/// The tests of this binary again, on files of SQLite; those of crashes and of the command line are
/// on files already, and those of layers need no store.
#[test]
fn all_of_it_holds_on_sqlite() {
    if is_durable() {
        return;
    }
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let again = again
        .args(["--skip", "crash::", "--skip", "cli::", "--skip", "layers::"])
        .env(STORE, "sqlite")
        .output()
        .unwrap();
    assert!(
        again.status.success(),
        "{}",
        String::from_utf8_lossy(&again.stdout)
    );
}

/// The address of a server that tests are run beside: `.ci/servers` names it in the environment. Without
/// it, the tests that need it are left out, which one line tells.
pub(crate) fn server(variable: &'static str) -> Option<String> {
    static LEFT_OUT: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let address = std::env::var(variable).ok();
    let mut left_out = LEFT_OUT.lock().unwrap();
    if address.is_none() && !is_durable() && !left_out.contains(&variable) {
        left_out.push(variable);
        // not by a macro, whose output is shown of tests that fail alone
        let line = format!("left out: tests that need {variable} (bash .ci/servers cargo test)\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    address
}

/// Keeps paused time from moving until it is dropped. Tokio moves it when a runtime has nothing to do
/// but wait, and an answer that is under way is nothing to it.
pub(crate) struct RealTime(#[expect(dead_code, reason = "it is dropped")] mpsc::Sender<()>);

/// See [`RealTime`].
pub(crate) fn real_time() -> RealTime {
    let (sender, dropped) = mpsc::channel();
    // time does not move while a blocking task runs
    tokio::task::spawn_blocking(move || dropped.recv());
    RealTime(sender)
}
