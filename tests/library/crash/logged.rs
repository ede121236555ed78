//! What a process logged before it died, and what it shows.

use super::*;

pub(super) async fn act(runtime: &Runtime) {
    assert!(orchestrator::init_logs());
    assert!(!orchestrator::init_logs());
    tracing::error!("outside of runs");
    logged().on(runtime).run().await.unwrap();
}

#[task]
async fn says() {
    tracing::info!("nothing to worry about");
    tracing::warn!(rows = 7, "hm");
    // the thread is not given back
    std::thread::park_timeout(Duration::from_secs(600));
}

#[flow(name = "crash_logged")]
fn logged() -> Node<()> {
    says()
}

/// The stored lines: level, task, attempt and message.
fn stored(place: &Place) -> Vec<String> {
    let Some(connection) = place.look() else {
        return Vec::new();
    };
    let columns = "format('%d %s %d %s', level, task, attempt, message)";
    let mut select = connection
        .prepare(&format!("SELECT {columns} FROM logs ORDER BY run, number"))
        .unwrap();
    select
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

fn shown(place: &Place) -> Vec<String> {
    let said = std::fs::read_to_string(place.0.join("said")).unwrap();
    // what comes after the time and the level; the run's id is another each time
    let lines = said.lines().filter(|line| {
        line.contains("Z  INFO ") || line.contains("Z  WARN ") || line.contains("Z ERROR ")
    });
    lines.map(|line| line[25..].to_owned()).collect()
}

/// Says much, keeps its thread for two seconds, and dies.
#[task]
async fn keeps_its_thread() {
    (0..999).for_each(|line| tracing::info!(line, "said"));
    let said = Instant::now();
    while said.elapsed() < Duration::from_secs(2) {
        std::thread::park_timeout(Duration::from_secs(2));
    }
    std::process::abort();
}

#[flow(name = "crash_kept_thread")]
fn kept_thread() -> Node<()> {
    keeps_its_thread()
}

/// On all threads of tokio. Each commit is written through to the disk, which takes a thread of
/// tokio.
pub(super) fn keep_all_threads(tokio: &mut tokio::runtime::Builder) {
    assert!(orchestrator::init_logs());
    tokio.enable_all().build().unwrap().block_on(async {
        let url = format!("{}?synchronous=full", Place::here().url());
        let runtime = Runtime::builder().store(url).build().await.unwrap();
        kept_thread().on(&runtime).run().await.unwrap();
    });
}

#[test]
fn logs_are_stored_while_bodies_block_all_threads() {
    for act in ["kept_thread", "kept_threads"] {
        let _case = crate::support::case(act);
        let place = Place::new(act);
        let process = place.start(act, &[("ORCHESTRATOR_LOG", "info")]);
        assert_eq!(process.wait().signal(), Some(SIGABRT), "{}", place.said());
        let mut stored = stored(&place);
        // which is told when it has been so for a second, in the middle of what the body says
        stored.retain(|line| !line.contains("has kept its thread"));
        let said = stored
            .iter()
            .filter(|line| *line == "2 keeps_its_thread 1 said")
            .count();
        assert_eq!(
            (said, stored.len()),
            (999, 1_000),
            "{act}: {:?}",
            stored.first()
        );
    }
}

#[test]
fn logs_from_a_second_before_a_kill_are_kept() {
    let place = Place::new("logged");
    let process = place.start("logged", &[("ORCHESTRATOR_LOG", "")]);
    place.wait_until("it says something", || place.said().contains("rows=7"));
    let said = Instant::now();
    place.wait_until("it is stored", || stored(&place).len() == 3);
    assert!(
        said.elapsed() < Duration::from_secs(1),
        "{:?}",
        said.elapsed()
    );
    assert_eq!(process.kill().signal(), Some(SIGKILL));
    let expected = [
        "2  0 run started",
        "2 says 1 nothing to worry about",
        "3 says 1 hm",
    ];
    assert_eq!(stored(&place), expected);
    let shown = shown(&place);
    assert_eq!(shown.len(), 4, "{shown:?}");
    assert_eq!(shown[0], "ERROR library::crash::logged: outside of runs");
    assert!(
        shown[2].starts_with(" INFO crash_logged ")
            && shown[2].ends_with(" says: nothing to worry about"),
        "{shown:?}"
    );
    assert!(
        shown[3].starts_with(" WARN crash_logged ") && shown[3].ends_with(" says: hm rows=7"),
        "{shown:?}"
    );
}

#[test]
fn warning_names_its_task_if_lower_levels_are_off() {
    let place = Place::new("logged");
    let process = place.start("logged", &[("ORCHESTRATOR_LOG", "warn")]);
    place.wait_until("it is stored", || !stored(&place).is_empty());
    process.kill();
    assert_eq!(stored(&place), ["3 says 1 hm"]);
    assert!(
        shown(&place)[1].ends_with(" says: hm rows=7"),
        "{}",
        place.said()
    );
}
