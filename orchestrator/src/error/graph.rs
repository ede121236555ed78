use crate::id::RunId;

/// An error in the graph that a flow describes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// Tasks wait for each other.
    #[error("task `{}` waits for itself: {}", path[0], path.join(" → "))]
    Cycle {
        /// The keys along the cycle; the first is the last.
        path: Vec<String>,
    },
    /// A node was created in another flow, or outside any flow.
    #[error(
        "task `{task}` takes a node that was created outside of this flow: create it in this flow's body \
         (a node created on another tokio task counts as outside: use `join!` instead of `spawn`)"
    )]
    ForeignNode {
        /// The task that takes the node.
        task: String,
    },
    /// A node of a mapping was used outside the mapping.
    #[error(
        "task `{task}` takes `{node}`, one element of a mapping, outside of that mapping: \
         return the node from the closure of `expand`, and use what `expand` returns"
    )]
    OutsideMapping {
        /// The task that takes the node.
        task: String,
        /// The node.
        node: String,
    },
    /// An option was set on a node that had been planned.
    #[error(
        "`{option}` is set on task `{task}` after the task was planned: set options where the task is called, before the next `.await`"
    )]
    Planned {
        /// The task.
        task: String,
        /// The option.
        option: &'static str,
    },
    /// An option was set on a mapping of several tasks.
    #[error(
        "`{option}` is set on a mapping of {tasks} tasks: set it inside the closure of `expand`, on the intended task"
    )]
    OptionOnGroup {
        /// The option.
        option: &'static str,
        /// The number of tasks that the closure creates.
        tasks: usize,
    },
    /// A flow was called in the closure of a mapping.
    #[error(
        "flow `{flow}` is called inside a mapping: call it outside and use its node in the closure, \
         or write an ordinary function over nodes"
    )]
    FlowInMapping {
        /// The flow.
        flow: String,
    },
    /// An input cannot be hashed, so a resumed run could not verify that it is the same.
    #[error("task `{task}`: an input cannot be hashed: {problem}")]
    Input {
        /// The task.
        task: String,
        /// The parameter, and the error of its `Serialize`.
        problem: String,
    },
    /// The flow of a resumed run creates a different task under a recorded key.
    #[error(
        "run {run} recorded `{key}` as {recorded}, but the flow now creates {asked}: the flow changed while the run was \
         under way; start a new run, or go back to the code that began it"
    )]
    Changed {
        /// The run.
        run: RunId,
        /// The key of the task.
        key: String,
        /// The recorded task.
        recorded: String,
        /// The task that the flow creates.
        asked: String,
    },
    /// A recorded result of a resumed run cannot be read.
    #[error(
        "the result of task `{key}` that run {run} recorded cannot be read as {output}: {problem}; go back to the code \
         that wrote it, or run the task again: `runs rerun {run} --from {key}`"
    )]
    Unreadable {
        /// The run.
        run: RunId,
        /// The key of the task.
        key: String,
        /// The type of the task's results.
        output: String,
        /// The reason why it cannot be read.
        problem: String,
    },
    /// A recorded result of a resumed run is of another type than its task's.
    #[error(
        "task `{key}` returned {returns}, but run {run} recorded {recorded}: the flow changed while the run was under \
         way; start a new run, or go back to the code that began it"
    )]
    ChangedOutput {
        /// The run.
        run: RunId,
        /// The key of the task.
        key: String,
        /// The type of the task's results.
        returns: String,
        /// The type of the recorded result.
        recorded: String,
    },
    /// An option has an invalid value.
    #[error("task `{task}`: {problem}")]
    Option {
        /// The task.
        task: String,
        /// What was expected, and what came.
        problem: String,
    },
    /// A name contains a character that is reserved for keys.
    #[error("expected a name without `/`, `#`, `[`, `]` and white space, got `{name}`")]
    Name {
        /// The name.
        name: String,
        /// The reserved character.
        character: char,
    },
    /// A name is too long.
    #[error("a name is too long: {problem}")]
    LongName {
        /// What was expected, and what came.
        problem: String,
    },
    /// The flow is an `async fn`: its graph depends on results.
    #[error("an `async fn` flow builds its graph while it runs: there is none to draw")]
    Dynamic {
        /// The flow's name.
        flow: String,
    },
}
