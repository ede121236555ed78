use super::task::CauseChain;
use super::upstreams::RecordedWiring;
use super::{KnownTasks, Reason, ReasonKind, Why, count};
use crate::journal::{ElementPlace, TaskPlace, TaskRun};
use crate::state::TaskState;

/// The parts of a mapped task that a key with some or none of its indexes selects.
enum MappedSelection {
    /// These elements, and the nested mappings whose lists are not known yet.
    Elements {
        places: Vec<TaskPlace>,
        unlisted: Vec<TaskPlace>,
    },
    /// The key has an index that does not exist: the mapping has this number of elements.
    Few { key: String, elements: u32 },
}

/// The order of the states in counts.
const STATES: [TaskState; 8] = [
    TaskState::Success,
    TaskState::Failed,
    TaskState::UpstreamFailed,
    TaskState::Skipped,
    TaskState::Cancelled,
    TaskState::Running,
    TaskState::Retrying,
    TaskState::Pending,
];

/// Splits a key into its base and the indexes at its end. An index that no mapping could have stays
/// a part of the base.
pub(super) fn split(key: &str) -> (&str, Vec<u64>) {
    let (mut base, mut path) = (key, Vec::new());
    while let Some((rest, index)) = base
        .strip_suffix(']')
        .and_then(|inner| inner.rsplit_once('['))
    {
        let Ok(index) = index.parse() else { break };
        path.push(index);
        base = rest;
    }
    path.reverse();
    (base, path)
}

fn find(wiring: &RecordedWiring<'_>, base: &str, path: Vec<u64>) -> Option<MappedSelection> {
    let node = wiring.mapped(base)?;
    let mappings = wiring.mappings(node);
    if path.len() > mappings.len() {
        return None;
    }
    let (mut key, mut unlisted) = (base.to_owned(), Vec::new());
    let mut outer = vec![ElementPlace::FLOW];
    let mut given = path.into_iter();
    for mapping in mappings {
        let index = given.next();
        let mut inner = Vec::new();
        for at in outer {
            let mapping = at.of(mapping);
            let element = |frame| move |index| ElementPlace { frame, index };
            match (wiring.opened(mapping), index) {
                (None, _) => unlisted.push(mapping),
                // an instance whose list was never computed stands for all of its elements
                (Some((frame, None)), _) => inner.push(element(frame)(0)),
                (Some((frame, Some(len))), None) => inner.extend((0..len).map(element(frame))),
                (Some((frame, Some(len))), Some(index)) => match u32::try_from(index) {
                    Ok(index) if index < len => inner.push(element(frame)(index)),
                    _ => return Some(MappedSelection::Few { key, elements: len }),
                },
            }
        }
        if let Some(index) = index {
            key.push_str(&format!("[{index}]"));
        }
        outer = inner;
    }
    let places = outer.into_iter().map(|element| element.of(node)).collect();
    Some(MappedSelection::Elements { places, unlisted })
}

/// Returns the elements of a mapped task, if the key names it but not exactly one of its elements.
pub(super) fn known(wiring: &RecordedWiring<'_>, key: &str) -> Option<KnownTasks> {
    let (base, path) = split(key);
    // for an index that does not exist, the answer is the number of elements
    let beyond = path.iter().copied().chain([u64::MAX]).collect();
    let found = match find(wiring, base, path)? {
        MappedSelection::Elements { places, unlisted }
            if places.is_empty() && !unlisted.is_empty() =>
        {
            return Some(KnownTasks::NoList {
                key: key.to_owned(),
            });
        }
        MappedSelection::Elements { .. } => find(wiring, base, beyond)?,
        few @ MappedSelection::Few { .. } => few,
    };
    match found {
        MappedSelection::Few { key, elements } => Some(KnownTasks::Elements { key, elements }),
        MappedSelection::Elements { .. } => None,
    }
}

impl<'a> CauseChain<'a> {
    /// Explains the state of a mapped task: the number of elements in each state, and those that
    /// did not succeed. Returns `None` if the key does not name a mapped task.
    pub(super) fn of_mapped(&mut self, key: &str) -> Option<Why> {
        let (base, path) = split(key);
        let Some(MappedSelection::Elements { places, unlisted }) = find(&self.wiring, base, path)
        else {
            return None;
        };
        let is_over = self.record.state().is_final();
        let tasks = places.iter().filter_map(|place| self.wiring.task(*place));
        // a task that a re-run selected but the flow did not create is no longer a part of the run
        let elements: Vec<TaskRun<'a>> = tasks
            .filter(|task| !is_over || task.state().is_final())
            .collect();
        if elements.is_empty() && !places.is_empty() {
            return None;
        }
        let counted = STATES.map(|state| {
            (
                state,
                elements.iter().filter(|task| task.state() == state).count(),
            )
        });
        let number = |state| {
            counted
                .iter()
                .find(|(other, _)| *other == state)
                .map_or(0, |(_, number)| *number)
        };
        let waiting = if is_over { 0 } else { unlisted.len() };
        let state = match is_over && elements.is_empty() && !unlisted.is_empty() {
            true => TaskState::Cancelled,
            false => state_of_all(elements.len(), waiting, number),
        };
        let mut why = Why {
            run: self.record.id(),
            task: Some(key.to_owned()),
            state: state.as_str(),
            reasons: Vec::new(),
            causes: Vec::new(),
        };
        let mut tell = |kind, text: String| why.reasons.push(Reason::new(kind, text));
        if !elements.is_empty() {
            let states = counted.iter().filter(|(_, number)| *number > 0);
            let states: Vec<String> = states
                .map(|(state, number)| format!("{number} {state}"))
                .collect();
            tell(
                kind_of(state),
                format!(
                    "{}: {}",
                    count(elements.len(), "element"),
                    states.join(", ")
                ),
            );
        } else if unlisted.is_empty() {
            tell(kind_of(state), "no elements: its list is empty".to_owned());
        }
        match (unlisted.len(), elements.is_empty()) {
            (0, _) => {}
            (_, _) if is_over => tell(
                ReasonKind::Unknown,
                "a list that it is mapped over never became available".to_owned(),
            ),
            (1, true) => {
                tell(
                    ReasonKind::Upstreams,
                    "the list that it is mapped over is not available yet".to_owned(),
                );
            }
            (lists, _) => {
                let are = if lists == 1 { "is" } else { "are" };
                let lists = count(lists, "list");
                tell(
                    ReasonKind::Upstreams,
                    format!("{lists} that it is mapped over {are} not available yet"),
                );
            }
        }
        let places: Vec<TaskPlace> = elements.iter().map(TaskRun::place).collect();
        why.causes = self.causes(
            &places,
            "element",
            |state| state != TaskState::Success,
            &mut why.reasons,
        );
        if waiting > 0 {
            let mut lists: Vec<TaskPlace> = unlisted
                .iter()
                .flat_map(|list| self.wiring.list_of(*list))
                .collect();
            lists.sort_unstable();
            lists.dedup();
            why.causes.extend(self.causes(
                &lists,
                "upstream",
                |state| !state.is_final(),
                &mut why.reasons,
            ));
        }
        Some(why)
    }
}

/// Returns the state of a mapping: the one that its downstream tasks see, if all of it is final.
fn state_of_all(elements: usize, waiting: usize, number: impl Fn(TaskState) -> usize) -> TaskState {
    let pending = number(TaskState::Pending);
    let open = pending + number(TaskState::Running) + number(TaskState::Retrying);
    if open + waiting > 0 {
        return if pending == elements {
            TaskState::Pending
        } else {
            TaskState::Running
        };
    }
    let ends = [
        TaskState::Failed,
        TaskState::UpstreamFailed,
        TaskState::Cancelled,
    ];
    let skipped = elements > 0 && number(TaskState::Skipped) == elements;
    let otherwise = if skipped {
        TaskState::Skipped
    } else {
        TaskState::Success
    };
    ends.into_iter()
        .find(|state| number(*state) > 0)
        .unwrap_or(otherwise)
}

/// Returns the kind of a reason that counts elements in this state.
fn kind_of(state: TaskState) -> ReasonKind {
    match state {
        TaskState::Pending => ReasonKind::Upstreams,
        TaskState::Running => ReasonKind::Running,
        TaskState::Retrying => ReasonKind::Retrying,
        TaskState::Success => ReasonKind::Succeeded,
        TaskState::Failed => ReasonKind::Failed,
        TaskState::Skipped => ReasonKind::Skipped,
        TaskState::UpstreamFailed => ReasonKind::UpstreamFailed,
        TaskState::Cancelled => ReasonKind::Cancelled,
    }
}
