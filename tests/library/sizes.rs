//! How long things may be: what is refused, what is cut, and the memory that a large result takes
//! on its way.

use orchestrator::prelude::*;
use orchestrator::{Runtime, TaskOptions};

#[task]
async fn takes(n: u32) -> u32 {
    n
}

#[tokio::test]
async fn the_text_of_an_error_is_cut_wherever_it_is_recorded() {
    #[task]
    async fn fails(mebibytes: usize) -> Result<u32> {
        Err(format!("begins{}ends", "x".repeat(mebibytes << 20)).into())
    }
    #[flow(name = "sizes_of_errors")]
    fn flow() -> Node<u32> {
        takes(fails(64))
    }
    let runtime = crate::support::runtime();
    let id = flow().on(&runtime).run().await.unwrap().id();
    let record = runtime.find_run(id).await.unwrap().unwrap();
    let texts = [
        record.task("fails").unwrap().error(),
        record.task("takes").unwrap().error(),
        record.error(),
    ];
    for text in texts.map(|error| error.unwrap().to_string()) {
        assert!(text.len() < (16 << 10) + 50, "{} bytes", text.len());
        assert!(
            text.contains("beginsxxx") && text.ends_with("xxxends"),
            "{text}"
        );
        assert!(text.contains(" bytes are cut out"), "{text}");
    }
}

#[tokio::test]
async fn a_name_that_is_too_long_is_refused_by_name() {
    #[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
    enum What {
        Node,
        Pool,
    }
    #[flow(name = "sizes_of_names")]
    fn flow(what: What, length: usize) {
        let name = "n".repeat(length);
        let node = takes(1);
        match what {
            What::Node => node.named(name),
            What::Pool => node.pool(name.leak()),
        };
    }
    let pool = |length| {
        Runtime::builder()
            .store("memory")
            .pool("n".repeat(length), 1)
            .build()
    };
    let runtime = pool(250).await.unwrap();
    for what in [What::Node, What::Pool] {
        let _case = crate::support::case(format_args!("{what:?}"));
        assert_eq!(
            flow(what, 250).on(&runtime).run().await.unwrap().state(),
            RunState::Success
        );
        let error = flow(what, 1_000_000)
            .on(&runtime)
            .run()
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("expected at most 250 bytes, got 1000000: `nnn"),
            "{error}"
        );
        assert!(error.len() < 300, "{error}");
    }
    assert_eq!(runtime.runs("sizes_of_names").await.unwrap().len(), 2);
    let error = pool(251).await.unwrap_err().to_string();
    assert!(
        error.contains("the name of a pool is too long: expected at most 250 bytes, got 251"),
        "{error}"
    );
    let mut options = TaskOptions::NONE;
    options.pool = Some(orchestrator::Pool {
        name: "n".repeat(251).leak(),
        slots: 1,
    });
    let error = Runtime::builder()
        .store("memory")
        .defaults(options)
        .build()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("expected at most 250 bytes, got 251"),
        "{error}"
    );
}

#[tokio::test]
async fn a_key_of_a_run_that_is_too_long_is_refused() {
    #[flow(name = "sizes_of_keys")]
    fn flow() -> Node<u32> {
        takes(1)
    }
    let runtime = crate::support::runtime();
    assert!(
        flow()
            .key("k".repeat(1024))
            .on(&runtime)
            .run()
            .await
            .is_ok()
    );
    for length in [1025, 1_000_000] {
        let flow = flow().key("k".repeat(length)).on(&runtime);
        let refused = [
            flow.clone().run().await.unwrap_err(),
            flow.trigger().await.unwrap_err(),
        ];
        for error in refused.map(|error| error.to_string()) {
            assert!(
                error.contains(&format!("expected at most 1024 bytes, got {length}: `kkk")),
                "{error}"
            );
        }
    }
    assert_eq!(runtime.runs("sizes_of_keys").await.unwrap().len(), 1);
}

#[tokio::test]
async fn parameters_that_are_too_long_are_refused_before_there_is_a_run() {
    #[flow(name = "sizes_of_parameters")]
    fn flow(first: String, _second: String) -> Node<u32> {
        takes(u32::try_from(first.len()).unwrap())
    }
    let runtime = crate::support::runtime();
    // `{"first":"…","_second":"…"}`
    let most = (1 << 20) - r#"{"first":"","_second":""}"#.len();
    let (half, rest) = ("a".repeat(most / 2), "b".repeat(most - most / 2));
    assert!(
        flow(half.clone(), rest.clone())
            .on(&runtime)
            .run()
            .await
            .is_ok()
    );
    let more = format!("{rest}b");
    let parameters = serde_json::json!({ "first": half, "_second": more });
    let refused = [
        flow(half.clone(), more.clone())
            .on(&runtime)
            .run()
            .await
            .unwrap_err(),
        flow(half, more).on(&runtime).trigger().await.unwrap_err(),
        runtime
            .trigger(
                "sizes_of_parameters",
                parameters.as_object().unwrap().clone(),
            )
            .await
            .unwrap_err(),
    ];
    for error in refused.map(|error| error.to_string()) {
        assert!(
            error.contains("expected at most 1048576 bytes of parameters as JSON, got 1048577"),
            "{error}"
        );
    }
    assert_eq!(runtime.runs("sizes_of_parameters").await.unwrap().len(), 1);
}

/// How many MiB the result of the other process has; by default as many as a test can afford.
/// `SIZES_MIB=300 cargo test -p tests --test library sizes::a_large_result -- --nocapture`
/// measures.
const MIB: &str = "SIZES_MIB";
const FILE: &str = "SIZES_FILE";

#[task]
async fn large(mebibytes: usize) -> String {
    "x".repeat(mebibytes << 20)
}

#[task]
async fn length(text: &str) -> usize {
    text.len()
}

#[flow(name = "sizes_of_results")]
fn results(mebibytes: usize) -> Node<usize> {
    length(large(mebibytes))
}

/// The most memory that this process has taken until now, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .unwrap()
        >> 10
}

#[test]
fn a_process_with_a_large_result() {
    let Ok(file) = std::env::var(FILE) else {
        return;
    };
    let mebibytes = std::env::var(MIB).unwrap().parse().unwrap();
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    tokio.block_on(async {
        let runtime = Runtime::builder()
            .store(format!("sqlite:{file}"))
            .build()
            .await
            .unwrap();
        // the first one of its form is read back, which takes its memory once more
        assert_eq!(results(1).on(&runtime).await.unwrap(), 1 << 20);
        let before = peak();
        assert_eq!(
            results(mebibytes).on(&runtime).await.unwrap(),
            mebibytes << 20
        );
        println!("took {} MiB", peak() - before);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_large_result_takes_the_memory_of_its_value_and_its_encoding_alone() {
    let mebibytes = std::env::var(MIB).unwrap_or_else(|_| "64".to_owned());
    let file = crate::support::new_folder("sizes").join("state.db");
    let mut process = std::process::Command::new(std::env::current_exe().unwrap());
    process.args([
        "sizes::a_process_with_a_large_result",
        "--exact",
        "--nocapture",
        "--test-threads=1",
    ]);
    let said = process
        .env(FILE, &file)
        .env(MIB, &mebibytes)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let took = said
        .lines()
        .find_map(|line| line.split("took ").nth(1)?.strip_suffix(" MiB"))
        .unwrap_or_else(|| panic!("{said}"));
    println!("a result of {mebibytes} MiB took {took} MiB");
    let (took, mebibytes): (usize, usize) = (took.parse().unwrap(), mebibytes.parse().unwrap());
    assert!(
        took * 10 < mebibytes * 23,
        "a result of {mebibytes} MiB took {took} MiB"
    );
}
