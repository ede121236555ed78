//! How names are found, and what is told of those that are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use orchestrator::prelude::*;
use orchestrator::{Clock, Connect, Connection, EntryKind, RunState, Secret, Vault, VaultEntry};
use parking_lot::Mutex;
use serde::Deserialize;

use super::builder;

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Limits {
    rows: u32,
    names: Vec<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Fast,
    Careful,
}

#[task]
async fn reads(
    #[variable("text")] text: &str,
    #[variable("text")] owned: String,
    #[variable("limits")] limits: &Limits,
    #[variable("mode")] mode: Mode,
    #[variable("batch")] batch: Option<u32>,
    #[secret("key")] key: &Secret,
    #[connection("shop")] shop: &Connection,
) -> Result<String> {
    assert_eq!(text, owned);
    assert_eq!(mode, Mode::Careful);
    assert_eq!(key.expose(), "k-1");
    Ok(format!(
        "{text} {} {:?} {batch:?} {}",
        limits.rows,
        limits.names,
        shop.host().unwrap()
    ))
}

#[flow(name = "requirements_reading")]
fn reading() -> Node<String> {
    reads()
}

#[tokio::test]
async fn what_is_given_to_the_runtime_is_read_by_type() -> Result<()> {
    let runtime = builder()
        // a text is as it is, quotes included
        .variable("text", "\"seven\" 7")
        .variable("limits", serde_json::json!({ "rows": 7, "names": ["a"] }))
        // what is no JSON is a JSON string
        .variable("mode", "careful")
        .variable("batch", 500)
        .secret("key", "k-1")
        .connection("shop", "postgres://db.example/shop")
        .build()
        .await?;
    let read = reading().on(&runtime).await?;
    assert_eq!(read, "\"seven\" 7 7 [\"a\"] Some(500) db.example");
    Ok(())
}

struct OnlyFiles;

impl Connect for OnlyFiles {
    const KINDS: &'static [&'static str] = &["s3", "aws"];

    async fn connect(_: &Connection) -> Result<Self> {
        Ok(Self)
    }
}

#[task]
async fn copies(#[connection("lake")] _lake: &OnlyFiles, #[secret("key")] _key: &Secret) -> u32 {
    1
}

#[task]
async fn cleans(
    after: u32,
    #[variable("limits")] _limits: Limits,
    #[secret("key")] _key: &Secret,
) -> u32 {
    after
}

#[flow(name = "requirements_lacking")]
fn lacking() -> Node<u32> {
    cleans(copies())
}

#[tokio::test]
async fn all_that_is_missing_is_told_before_there_is_a_run() -> Result<()> {
    let runtime = builder().build().await?;
    let error = lacking().on(&runtime).run().await.unwrap_err().to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 5, "{error}");
    assert_eq!(
        lines[0],
        "flow `requirements_lacking` needs what is not there: "
    );
    for (line, (task, name, variables)) in lines[1..].iter().zip([
        (
            "copies",
            "connection `lake`",
            "ORCHESTRATOR_CONN_LAKE, AIRFLOW_CONN_LAKE, ",
        ),
        ("copies", "secret `key`", "ORCHESTRATOR_SECRET_KEY, "),
        (
            "cleans",
            "variable `limits`",
            "ORCHESTRATOR_VAR_LIMITS, AIRFLOW_VAR_LIMITS, ",
        ),
        ("cleans", "secret `key`", "ORCHESTRATOR_SECRET_KEY, "),
    ]) {
        let begin =
            format!("- task `{task}`: {name} is not found; looked in the runtime, {variables}");
        assert!(line.starts_with(&begin), "{line}");
        assert!(line.contains("the store"), "{line}");
    }
    assert!(runtime.runs("requirements_lacking").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_used_is_told_before_there_is_a_run() -> Result<()> {
    let runtime = builder()
        .connection("lake", "http://minio.example")
        .variable("limits", serde_json::json!({ "rows": -1, "names": [] }))
        .secret("key", "k-1")
        .build()
        .await?;
    let error = lacking().on(&runtime).run().await.unwrap_err().to_string();
    assert!(
        error.contains(
            "connection `lake` (from the runtime): expected the kind `s3` or `aws`, got `http`"
        ),
        "{error}"
    );
    assert!(
        error.contains("variable `limits`: expected a value of type `Limits`: ")
            && error.contains("-1"),
        "{error}"
    );
    assert!(runtime.runs("requirements_lacking").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_is_given_wrongly_is_told_when_the_runtime_is_built() {
    for (builder, expected) in [
        (
            builder().connection("shop", "no connection"),
            "connection `shop`",
        ),
        (
            builder().secret("a/b", "k"),
            "secret expected a name of letters",
        ),
        (builder().variable("", 1), "variable expected a name"),
    ] {
        let error = builder.build().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // the text may have a password
    let error = builder().connection("shop", "pass-word-1").build().await;
    assert!(!error.unwrap_err().to_string().contains("pass-word-1"));
}

#[task]
async fn named(id: String, #[context] context: &Context) -> Result<String> {
    let connection = context.connection::<Connection>(&id).await?;
    let rows: u32 = context.variable("rows").await?;
    let key = context.secret("key").await?;
    Ok(format!(
        "{} {rows} {}",
        connection.kind(),
        key.expose().len()
    ))
}

#[flow(name = "requirements_named")]
fn names(ids: Vec<String>) -> Mapped<String> {
    expand(ids, named)
}

#[tokio::test]
async fn names_may_be_data() -> Result<()> {
    let runtime = builder()
        .connection("crm", "mysql://crm.example")
        .connection("lake", "s3://lake.example")
        .variable("rows", 7)
        .secret("key", "k-1")
        .build()
        .await?;
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let kinds = names(ids(&["crm", "lake"])).on(&runtime).await?;
    assert_eq!(kinds, ["mysql 7 3", "s3 7 3"]);
    for (id, problem) in [
        (
            "nowhere",
            "connection `nowhere` is not found; looked in the runtime, ORCHESTRATOR_CONN_NOWHERE",
        ),
        (
            "../key",
            "connection expected a name that does not begin with a dot",
        ),
    ] {
        let run = names(ids(&[id])).on(&runtime).run().await?;
        let error = run.task("named[0]").unwrap().error().unwrap().to_string();
        assert!(error.contains(problem), "{error}");
    }
    Ok(())
}

#[flow(name = "requirements_in_a_body")]
async fn in_a_body(#[context] context: &Context) -> Result<u32> {
    Ok(context.variable::<u32>("rows").await?)
}

#[tokio::test]
async fn the_body_of_a_flow_takes_nothing() -> Result<()> {
    let runtime = builder().variable("rows", 7).build().await?;
    let error = in_a_body().on(&runtime).await.unwrap_err().to_string();
    assert!(
        error.contains("the body of a flow takes no variables, its tasks do"),
        "{error}"
    );
    Ok(())
}

static TRIED: AtomicU32 = AtomicU32::new(0);

#[task(retries = 3)]
async fn needs_later(#[secret("late")] key: &Secret) -> u32 {
    TRIED.fetch_add(1, SeqCst);
    key.expose().len() as u32
}

#[flow(name = "requirements_dynamic")]
async fn dynamic() -> Result<u32> {
    Ok(needs_later().await?)
}

#[flow(name = "requirements_declared", secrets = ["late"], connections = ["lake"])]
async fn declared() -> Result<u32> {
    Ok(needs_later().await?)
}

#[tokio::test]
async fn an_async_flow_is_told_when_the_task_is_reached_or_early_if_it_declares() -> Result<()> {
    let runtime = builder().build().await?;
    let run = dynamic().on(&runtime).run().await?;
    let task = run.task("needs_later").unwrap();
    assert_eq!(
        task.attempts(),
        1,
        "what is missing does not come by trying again"
    );
    assert!(
        task.error()
            .unwrap()
            .to_string()
            .contains("secret `late` is not found")
    );
    assert_eq!(TRIED.load(SeqCst), 0);
    let error = declared().on(&runtime).run().await.unwrap_err().to_string();
    assert!(
        error.contains("flow `requirements_declared`: connection `lake` is not found")
            && error.contains("flow `requirements_declared`: secret `late` is not found"),
        "{error}"
    );
    assert!(runtime.runs("requirements_declared").await?.is_empty());
    Ok(())
}

static COMPUTED: AtomicU32 = AtomicU32::new(0);

#[task(cache)]
async fn scores(
    rows: u32,
    #[variable("requirements_model")] model: &str,
    #[no_cache]
    #[variable("requirements_batch")]
    batch: u32,
    #[secret("key")] _key: &Secret,
) -> String {
    COMPUTED.fetch_add(1, SeqCst);
    format!("{rows} by {model} in {batch}")
}

#[flow(name = "requirements_cached")]
fn cached(rows: u32) -> Node<String> {
    scores(rows)
}

#[tokio::test]
async fn a_variable_is_a_part_of_the_cache_key() -> Result<()> {
    let vault = Settings::default();
    let runtime = builder().vault(vault.clone()).build().await?;
    for (model, batch, key, expected, computed) in [
        ("a", "1", "k", "7 by a in 1", 1),
        // neither the batch, which is marked, nor the secret is a part
        ("a", "2", "l", "7 by a in 1", 1),
        ("b", "2", "l", "7 by b in 2", 2),
        ("a", "3", "m", "7 by a in 1", 2),
    ] {
        *vault.0.lock() = [
            ("requirements_model", model),
            ("requirements_batch", batch),
            ("key", key),
        ];
        assert_eq!(cached(7).on(&runtime).await?, expected);
        assert_eq!(COMPUTED.load(SeqCst), computed);
    }
    Ok(())
}

/// A vault whose entries can be changed: each run looks them up anew.
#[derive(Clone, Default)]
struct Settings(Arc<Mutex<[(&'static str, &'static str); 3]>>);

impl Vault for Settings {
    fn name(&self) -> String {
        "settings".to_owned()
    }

    async fn find(&self, _: EntryKind, name: &str) -> Result<Option<VaultEntry>> {
        let settings = *self.0.lock();
        let found = settings.iter().find(|(setting, _)| *setting == name);
        Ok(found.map(|(_, text)| VaultEntry::new(*text)))
    }
}

#[tokio::test]
async fn a_mocked_task_needs_nothing() -> Result<()> {
    let runtime = builder().build().await?;
    let runtime = runtime
        .mock(copies, || 1)
        .mock(cleans, |after: u32| after + 1);
    assert_eq!(lacking().on(&runtime).await?, 2);
    Ok(())
}

#[tokio::test]
async fn they_are_listed_in_the_graph() -> Result<()> {
    let graph = lacking().graph()?;
    let listed: Vec<_> = graph.nodes()[1]
        .requirements()
        .map(|(kind, name)| format!("{kind} {name}"))
        .collect();
    assert_eq!(listed, ["variable limits", "secret key"]);
    assert!(
        graph
            .to_mermaid()
            .contains("copies<br/>connection lake<br/>secret key")
    );
    assert!(graph.to_dot().contains("connection lake"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_that_lacks_a_name_goes_on_when_it_is_set() -> Result<()> {
    #[task]
    async fn takes(#[variable("set_later")] number: u32) -> u32 {
        number
    }
    #[task]
    async fn idles() -> u32 {
        1
    }
    #[flow(name = "names_set_later")]
    fn later() -> Node<u32> {
        takes()
    }
    #[flow(name = "names_idle")]
    fn idle() -> Node<u32> {
        idles()
    }
    let (store, clock) = (crate::support::file(), Clock::tokio_from_now());
    let store = crate::support::url(&store);
    let builder = || Runtime::builder().store(&store).clock(clock.clone());
    let full = builder().variable("set_later", 1).build().await?;
    let id = later().on(&full).trigger().await?;
    let bare = builder().build().await?;
    let act = async {
        tokio::time::sleep(Duration::from_secs(200)).await;
        let run = bare.find_run(id).await.unwrap().unwrap();
        assert!(!run.state().is_final(), "{run:?}");
        let kind = EntryKind::Variable;
        bare.set_entry(kind, "set_later", "7").await.unwrap();
        tokio::time::sleep(Duration::from_secs(200)).await;
        let run = bare.find_run(id).await.unwrap().unwrap();
        assert_eq!(run.state(), RunState::Success);
    };
    let yearly = idle().on(&bare).serve("0 0 1 1 *");
    crate::support::while_serving(yearly, act).await;
    Ok(())
}
