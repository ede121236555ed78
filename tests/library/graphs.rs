//! `flow.graph()`: nodes, edges, drawings, and what is refused.

use orchestrator::prelude::*;
use orchestrator::{Graph, GraphError};

#[task]
async fn extract(day: u32) -> Vec<u32> {
    vec![day]
}

/// Scores one customer.
#[task(tags = ["model"])]
async fn score(customer: u32, weight: u32) -> u32 {
    customer * weight
}

#[task]
async fn load(scores: Vec<u32>, comment: Option<String>) -> usize {
    scores.len() + comment.map_or(0, |comment| comment.len())
}

#[task(trigger = all_done)]
async fn clean_up() {}

#[task]
async fn weight() -> u32 {
    2
}

#[flow]
fn part(day: u32) -> Node<u32> {
    score(day, weight())
}

#[flow(name = "graphs_whole")]
fn whole() -> Node<usize> {
    let customers = extract(part(1));
    let weight = weight();
    let scores = customers.expand(|customer| score(customer, &weight));
    clean_up().after((&scores, &weight));
    load(scores, None)
}

fn edges(graph: &Graph) -> Vec<(String, String, Option<&str>)> {
    let key = |place: usize| graph.nodes()[place].key().to_owned();
    graph
        .edges()
        .iter()
        .map(|edge| (key(edge.from()), key(edge.to()), edge.parameter()))
        .collect()
}

#[test]
fn a_graph_has_tasks_mappings_flows_and_their_edges() {
    let graph = whole().graph().unwrap();
    let keys: Vec<&str> = graph.nodes().iter().map(|node| node.key()).collect();
    assert_eq!(
        keys,
        [
            "part",
            "extract",
            "weight",
            "score",
            "clean_up",
            "load",
            "part/weight",
            "part/score"
        ]
    );
    assert!(graph.nodes()[3].is_mapped() && graph.nodes()[0].is_flow());
    assert_eq!(graph.nodes()[3].description(), "Scores one customer.");
    assert_eq!(graph.nodes()[3].tags(), ["model"]);
    assert_eq!(graph.nodes()[4].trigger(), Trigger::AllDone);
    let mut edges = edges(&graph);
    edges.sort();
    let edge = |from: &str, to: &str, parameter| (from.to_owned(), to.to_owned(), parameter);
    let mut expected = vec![
        edge("part", "extract", Some("day")),
        edge("extract", "score", Some("customer")),
        edge("weight", "score", Some("weight")),
        edge("score", "clean_up", None),
        edge("weight", "clean_up", None),
        edge("score", "load", Some("scores")),
        edge("part/weight", "part/score", Some("weight")),
        edge("part/score", "part", None),
    ];
    expected.sort();
    assert_eq!(edges, expected);
}

#[test]
fn a_graph_is_drawn() {
    let graph = part(1).graph().unwrap();
    assert_eq!(
        graph.to_mermaid(),
        "---\ntitle: part\n---\nflowchart LR\n    n0[\"weight\"]\n    n1[\"score\"]\n    n0 -->|weight| n1\n"
    );
    assert_eq!(
        graph.to_dot(),
        "digraph \"part\" {\n    rankdir=LR;\n    node [shape=box];\n    n0 [label=\"weight\"];\n    n1 [label=\"score\"];\n    \
         n0 -> n1 [label=\"weight\"];\n}\n"
    );
    let graph = whole().graph().unwrap();
    assert!(
        graph.to_mermaid().contains("score[…]")
            && graph.to_mermaid().contains("clean_up<br/>all_done")
    );
    assert!(graph.to_dot().contains("peripheries=2"));
}

fn refusal<T: orchestrator::Data>(flow: &Flow<T>) -> GraphError {
    match flow.graph() {
        Err(Error::Graph { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_cycle_is_refused_with_its_path() {
    #[flow]
    fn cyclic() {
        let first = weight();
        let second = part_of(&first);
        let third = part_of(second);
        let _first = first.after(&third);
    }
    #[task]
    async fn part_of(n: u32) -> u32 {
        n
    }
    #[flow]
    fn itself() {
        let node = weight();
        let _node = node.clone().after(node);
    }
    let error = refusal(&cyclic());
    assert_eq!(
        error.to_string(),
        "task `weight` waits for itself: weight → part_of → part_of → weight"
    );
    assert_eq!(
        refusal(&itself()).to_string(),
        "task `weight` waits for itself: weight → weight"
    );
    // as an error, and not as a run
    let runtime = crate::support::runtime();
    assert!(matches!(
        cyclic().on(&runtime).run().await,
        Err(Error::Graph { .. })
    ));
    assert!(runtime.runs("cyclic").await.unwrap().is_empty());
}

#[test]
fn nodes_of_another_flow_are_refused_by_name() {
    use std::cell::RefCell;
    thread_local! {
        static KEPT: RefCell<Option<Node<u32>>> = const { RefCell::new(None) };
    }
    #[flow]
    fn keeps() {
        KEPT.set(Some(weight()));
    }
    #[flow]
    fn uses_foreign() -> Node<u32> {
        score(1, KEPT.take().unwrap())
    }
    #[flow]
    fn leaks() -> Node<u32> {
        expand(vec![1], |n| {
            let inner = score(n, 1);
            KEPT.set(Some(inner.clone()));
            inner
        });
        score(1, KEPT.take().unwrap())
    }
    #[flow]
    fn flow_in_mapping() -> Mapped<u32> {
        expand(vec![1], |n| score(n, part(1)))
    }
    keeps().graph().unwrap();
    assert!(
        matches!(refusal(&uses_foreign()), GraphError::ForeignNode { task } if task == "score")
    );
    KEPT.set(Some(weight()));
    assert!(matches!(
        refusal(&uses_foreign()),
        GraphError::ForeignNode { .. }
    ));
    let error = refusal(&leaks());
    assert!(
        matches!(&error, GraphError::OutsideMapping { task, node } if task == "score" && node == "score"),
        "{error}"
    );
    assert!(
        matches!(refusal(&flow_in_mapping()), GraphError::FlowInMapping { flow } if flow == "part")
    );
}

#[test]
fn invalid_options_are_refused_by_name() {
    #[flow(name = "graphs_too_many")]
    fn too_many() -> Node<u32> {
        weight().retries(500)
    }
    #[flow]
    fn shrinking() -> Node<u32> {
        weight().backoff(0.5)
    }
    #[flow]
    fn nobody() -> Mapped<u32> {
        expand(vec![1], |n| score(n, 1)).concurrency(0)
    }
    #[flow]
    fn badly_named() -> Node<u32> {
        weight().named("a/b")
    }
    let text = |error: GraphError| error.to_string();
    assert!(text(refusal(&too_many())).contains("expected `retries` to be at most 100, got 500"));
    assert!(text(refusal(&shrinking())).contains("`backoff`"));
    assert!(text(refusal(&nobody())).contains("`concurrency`"));
    assert!(text(refusal(&badly_named())).contains("`a/b`"));
}

#[test]
fn the_graph_of_an_async_flow_is_not_known() {
    #[flow]
    async fn decides() -> Result<u32> {
        Ok(weight().await?)
    }
    assert!(matches!(refusal(&decides()), GraphError::Dynamic { flow } if flow == "decides"));
}
