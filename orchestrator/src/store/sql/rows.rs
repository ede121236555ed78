//! Transitions as rows, and back.
//!
//! Instants are stored as the microseconds since 1970.
//!
//! A row of `attempts` is a change of state of a node or an element. A row of `plans` is any other
//! transition of the plan; its first byte tells which. Both share one sequence of numbers, in the
//! order in which they were recorded.

use std::borrow::Cow;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::codes::Code;
use crate::blob::BlobRef;
use crate::clock::Timestamp;
use crate::error::TaskError;
use crate::graph::{NodeMeta, NodeWiring};
use crate::index::{FrameNumber, NodeNumber};
use crate::journal::transition::CellRange;
use crate::journal::{
    CacheNote, CellState, ClearedRows, ElementPlace, EncodedResult, FrameMeta, RowPlace, TaskEnd,
    Transition,
};
use crate::state::{Rerun, TaskState};

/// Returns the column of an instant that may be missing, as 0.
fn or_zero(at: Option<Timestamp>) -> i64 {
    at.map_or(0, Timestamp::micros)
}

/// Returns the instant of a column in which 0 means never.
pub(crate) fn unless_zero(micros: i64) -> Option<Timestamp> {
    (micros != 0).then_some(Timestamp::from_micros(micros))
}

/// The bytes of a column `body` or `output`.
#[derive(Debug)]
pub(crate) enum Payload {
    None,
    Bytes(Vec<u8>),
    /// A result that goes into a blob, and the bytes before the reference.
    Large(Vec<u8>, EncodedResult),
}

impl Payload {
    /// Returns the bytes of the column.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::None | Self::Large(..) => None,
        }
    }
}

/// The largest result that is stored in its row.
const INLINE: usize = 1 << 20;

/// The flags in the first byte of a body: a note of the cache follows; a reference to a blob
/// follows; the duration follows, in microseconds; the attempt starts alone.
const NOTE: u8 = 1;
pub(crate) const BLOB: u8 = 2;
const TOOK: u8 = 4;
const ALONE: u8 = 16;

fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    // cannot fail: these are plain structures of our own
    rmp_serde::to_vec(value).unwrap_or_default()
}

/// The reason why a row cannot be read.
pub(crate) type Unreadable = String;

fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    rmp_serde::from_slice(bytes).map_err(|error| format!("a row cannot be read: {error}"))
}

#[derive(Serialize, Deserialize)]
struct PlannedRow<'a> {
    /// The strings that nodes refer to by number: names, prefixes, types.
    #[serde(borrow)]
    words: Vec<Cow<'a, str>>,
    nodes: Vec<NodeRow>,
}

/// Stands for a missing word.
const NO_WORD: u32 = u32::MAX;

#[derive(Serialize, Deserialize)]
struct NodeRow {
    prefix: Option<u32>,
    name: u32,
    number: u32,
    region: Option<u32>,
    local: u32,
    hidden: bool,
    #[serde(with = "serde_bytes_16")]
    wiring: [u8; 16],
    task: Option<u32>,
    output: u32,
    upstreams: Vec<u32>,
}

/// Serializes sixteen bytes as bytes rather than as sixteen numbers.
mod serde_bytes_16 {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        bytes: &[u8; 16],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 16], D::Error> {
        struct Sixteen;
        impl Visitor<'_> for Sixteen {
            type Value = [u8; 16];

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("16 bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<[u8; 16], E> {
                bytes
                    .try_into()
                    .map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Sixteen)
    }
}

/// The distinct words of one row.
#[derive(Default)]
struct Words<'a> {
    words: Vec<Cow<'a, str>>,
    numbers: std::collections::HashMap<&'a str, u32>,
}

impl<'a> Words<'a> {
    fn number(&mut self, word: &'a str) -> u32 {
        let next = u32::try_from(self.words.len()).unwrap_or(NO_WORD);
        *self.numbers.entry(word).or_insert_with(|| {
            self.words.push(Cow::Borrowed(word));
            next
        })
    }
}

fn planned(nodes: &[NodeMeta]) -> Vec<u8> {
    let mut words = Words::default();
    let nodes = nodes.iter().map(|node| {
        let wiring = node.wiring.as_deref();
        let task = wiring.map_or(&*node.name, |wiring| &*wiring.task);
        NodeRow {
            prefix: node.prefix.as_deref().map(|prefix| words.number(prefix)),
            name: words.number(&node.name),
            number: node.number,
            region: node.region.map(NodeNumber::get),
            local: node.local,
            hidden: node.hidden,
            wiring: wiring.map(|wiring| wiring.hash).unwrap_or_default(),
            task: (task != node.name).then(|| words.number(task)),
            output: words.number(wiring.map_or("", |wiring| &wiring.output)),
            upstreams: wiring
                .iter()
                .flat_map(|wiring| &wiring.upstreams)
                .map(|upstream| upstream.get())
                .collect(),
        }
    });
    let nodes = nodes.collect();
    pack(&PlannedRow {
        words: words.words,
        nodes,
    })
}

fn nodes(bytes: &[u8]) -> Result<Vec<NodeMeta>, Unreadable> {
    let row: PlannedRow<'_> =
        rmp_serde::from_slice(bytes).map_err(|error| format!("a plan cannot be read: {error}"))?;
    let words: Vec<Arc<str>> = row.words.iter().map(|word| Arc::from(&**word)).collect();
    let word = |number: u32| {
        words
            .get(number as usize)
            .cloned()
            .ok_or("a plan refers to a word that it lacks")
    };
    let node = |node: NodeRow| {
        let name: Cow<'static, str> = word(node.name)?.to_string().into();
        let task = match node.task {
            Some(task) => word(task)?.to_string().into(),
            None => name.clone(),
        };
        let wiring = NodeWiring {
            hash: node.wiring,
            task,
            output: word(node.output)?,
            upstreams: node.upstreams.into_iter().map(NodeNumber::new).collect(),
        };
        Ok(NodeMeta {
            prefix: node.prefix.map(word).transpose()?,
            name,
            number: node.number,
            region: node.region.map(NodeNumber::new),
            local: node.local,
            hidden: node.hidden,
            wiring: Some(Box::new(wiring)),
        })
    };
    row.nodes
        .into_iter()
        .map(node)
        .collect::<Result<_, &str>>()
        .map_err(str::to_owned)
}

/// The kinds of rows of `plans`, by their first byte.
const PLANNED: u8 = 1;
const EXPANDED: u8 = 2;
const EXTENDED: u8 = 3;
const AWAITED: u8 = 4;
const CLEARED: u8 = 5;
const AWAITED_AGAIN: u8 = 6;

/// Returns the row of `plans` for a transition. Returns `None` if it is stored elsewhere.
pub(crate) fn plan(transition: &Transition) -> Option<Vec<u8>> {
    let (tag, rest) = match transition {
        Transition::Planned(nodes) => (PLANNED, planned(nodes)),
        Transition::Expanded(meta) => {
            let region = meta.region.map(NodeNumber::get);
            let parent = (meta.parent.frame.get(), meta.parent.index);
            (EXPANDED, pack(&(region, parent, meta.len, meta.unexpanded)))
        }
        Transition::Extended { frame } => (EXTENDED, pack(&frame.get())),
        Transition::Awaited { node, known: None } => (AWAITED, pack(&node.get())),
        Transition::Awaited {
            node,
            known: Some(known),
        } => (AWAITED_AGAIN, pack(&(node.get(), known))),
        Transition::Cleared(ClearedRows { at, what, ranges }) => {
            let ranges: Vec<_> = ranges
                .iter()
                .map(|range| (range.frame.get(), range.from, range.len))
                .collect();
            (CLEARED, pack(&(at, what, ranges)))
        }
        _ => return None,
    };
    let mut body = Vec::with_capacity(rest.len() + 1);
    body.push(tag);
    body.extend(rest);
    Some(body)
}

/// Decodes the transition of a row of `plans`.
pub(crate) fn planned_of(body: &[u8]) -> Result<Transition, Unreadable> {
    let (tag, rest) = body.split_first().ok_or("a plan is empty")?;
    match *tag {
        PLANNED => nodes(rest).map(Transition::Planned),
        EXPANDED => {
            let (region, (outer, index), len, unexpanded) =
                unpack::<(Option<u32>, (u32, u32), u32, bool)>(rest)?;
            Ok(Transition::Expanded(FrameMeta {
                region: region.map(NodeNumber::new),
                parent: ElementPlace {
                    frame: FrameNumber::new(outer),
                    index,
                },
                len,
                unexpanded,
            }))
        }
        EXTENDED => Ok(Transition::Extended {
            frame: FrameNumber::new(unpack(rest)?),
        }),
        AWAITED => Ok(Transition::Awaited {
            node: NodeNumber::new(unpack(rest)?),
            known: None,
        }),
        AWAITED_AGAIN => {
            let (node, known) = unpack(rest)?;
            Ok(Transition::Awaited {
                node: NodeNumber::new(node),
                known: Some(known),
            })
        }
        CLEARED => {
            let (at, what, ranges) = unpack::<(Timestamp, Rerun, Vec<(u32, u32, u32)>)>(rest)?;
            let ranges = ranges
                .into_iter()
                .map(|(frame, from, len)| CellRange {
                    frame: FrameNumber::new(frame),
                    from,
                    len,
                })
                .collect();
            Ok(Transition::Cleared(ClearedRows { at, what, ranges }))
        }
        other => Err(format!("a plan is of the unknown kind {other}")),
    }
}

/// A row of `attempts`, without its run and number.
#[derive(Debug)]
pub(crate) struct AttemptRow {
    pub(crate) frame: u32,
    pub(crate) cell: u32,
    pub(crate) attempt: u16,
    pub(crate) state: TaskState,
    pub(crate) started: i64,
    pub(crate) took: i64,
    pub(crate) body: Payload,
}

impl AttemptRow {
    pub(crate) fn new(end: &TaskEnd) -> Self {
        let (started, took, failed) = match end.state {
            CellState::Pending => (None, 0, None),
            CellState::Running { since } => (Some(since), 0, None),
            CellState::Retrying {
                started,
                failed,
                due,
            } => (Some(started), due.micros_since(started), failed),
            CellState::Ended { started, at, .. } => {
                let took = at.micros_since(started.unwrap_or(Timestamp::EPOCH));
                (started, took, None)
            }
        };
        let started = or_zero(started);
        let state = end.state.task_state();
        let note = end.note.as_ref().map(|note| pack(&**note));
        let error = (end.error.as_ref())
            .filter(|_| state != TaskState::Success)
            .map(pack);
        let failed = failed.map(|failed| (failed.micros() - started).to_le_bytes());
        let body = match (&end.result, error, failed) {
            (Some(result), ..) => result_body(result, note),
            (None, Some(error), Some(failed)) => {
                Payload::Bytes(prefixed(note, TOOK, &[&failed, &*error].concat()))
            }
            (None, Some(error), None) => Payload::Bytes(prefixed(note, 0, &error)),
            (None, None, _) if end.alone => Payload::Bytes(prefixed(note, ALONE, &[])),
            (None, None, _) if note.is_some() => Payload::Bytes(prefixed(note, 0, &[])),
            (None, None, _) => Payload::None,
        };
        Self {
            frame: end.place.frame.get(),
            cell: end.place.cell,
            attempt: end.attempts,
            state,
            started,
            took,
            body,
        }
    }
}

/// The columns of a row of `attempts`, without its run and number, as a driver reads them.
#[derive(Debug)]
pub(crate) struct AttemptColumns<'a> {
    pub(crate) frame: i64,
    pub(crate) cell: i64,
    pub(crate) attempt: i64,
    pub(crate) state: i64,
    pub(crate) started: i64,
    pub(crate) took: i64,
    pub(crate) body: Option<&'a [u8]>,
}

impl AttemptColumns<'_> {
    /// Decodes the change of state of a row, and the reference to its result if that is in a blob.
    pub(crate) fn decode(&self) -> Result<(TaskEnd, Option<BlobRef>), Unreadable> {
        let small = |number: i64| u32::try_from(number).map_err(|error| error.to_string());
        let state = TaskState::of(self.state).ok_or("a row has an unknown state")?;
        let attempts = u16::try_from(self.attempt).map_err(|error| error.to_string())?;
        let (started, span) = (Timestamp::from_micros(self.started), self.took);
        let Parts {
            note,
            took,
            is_blob,
            alone,
            rest,
        } = split(self.body.unwrap_or(&[0]))?;
        let (mut error, mut result, mut blob) = (None, None, None);
        match state {
            TaskState::Success if is_blob => {
                blob = Some(BlobRef::from_bytes(rest).ok_or("a reference is cut off")?)
            }
            TaskState::Success if !rest.is_empty() => result = Some(rest.to_vec().into()),
            TaskState::Success => {}
            _ if !rest.is_empty() => error = Some(unpack::<TaskError>(rest)?),
            _ => {}
        }
        let until = started.shifted(span);
        let state = match state {
            TaskState::Pending => CellState::Pending,
            TaskState::Running => CellState::Running { since: started },
            TaskState::Retrying => CellState::Retrying {
                started,
                failed: took.map(|took| started.shifted(took)),
                due: until,
            },
            TaskState::Success
            | TaskState::Failed
            | TaskState::Skipped
            | TaskState::UpstreamFailed
            | TaskState::Cancelled => CellState::Ended {
                state,
                started: unless_zero(started.micros()),
                at: until,
            },
        };
        let note = note.map(Box::new);
        Ok((
            TaskEnd {
                place: RowPlace {
                    frame: FrameNumber::new(small(self.frame)?),
                    cell: small(self.cell)?,
                },
                state,
                attempts,
                error,
                result,
                note,
                cache: None,
                alone,
            },
            blob,
        ))
    }
}

fn prefixed(note: Option<Vec<u8>>, flags: u8, rest: &[u8]) -> Vec<u8> {
    let note = note.unwrap_or_default();
    let mut body = Vec::with_capacity(note.len() + rest.len() + 3);
    if note.is_empty() {
        body.push(flags);
    } else {
        body.push(flags | NOTE);
        body.extend(u16::try_from(note.len()).unwrap_or(0).to_le_bytes());
        body.extend(note);
    }
    body.extend(rest);
    body
}

/// Returns the body of a result: the bytes for its row, or the blob to be written.
pub(crate) fn result_body(result: &EncodedResult, note: Option<Vec<u8>>) -> Payload {
    match result.0.len() <= INLINE {
        true => Payload::Bytes(prefixed(note, 0, &result.0)),
        false => Payload::Large(prefixed(note, BLOB, &[]), result.clone()),
    }
}

/// The parts of a body.
struct Parts<'a> {
    note: Option<CacheNote>,
    took: Option<i64>,
    /// Whether the rest is a reference to a blob.
    is_blob: bool,
    alone: bool,
    rest: &'a [u8],
}

fn split(body: &[u8]) -> Result<Parts<'_>, Unreadable> {
    let (flags, mut rest) = body.split_first().ok_or("a row is empty")?;
    let (mut note, mut took) = (None, None);
    if flags & NOTE != 0 {
        let (length, more) = rest.split_first_chunk::<2>().ok_or("a note is cut off")?;
        let length = usize::from(u16::from_le_bytes(*length));
        let (bytes, more) = more.split_at_checked(length).ok_or("a note is cut off")?;
        (note, rest) = (Some(unpack(bytes)?), more);
    }
    if flags & TOOK != 0 {
        let (bytes, more) = rest
            .split_first_chunk::<8>()
            .ok_or("a duration is cut off")?;
        (took, rest) = (Some(i64::from_le_bytes(*bytes)), more);
    }
    Ok(Parts {
        note,
        took,
        is_blob: flags & BLOB != 0,
        alone: flags & ALONE != 0,
        rest,
    })
}

/// Returns a stored result: its bytes, or the reference to its blob.
pub(crate) fn stored_result(body: &[u8]) -> Result<Result<EncodedResult, BlobRef>, Unreadable> {
    match split(body)? {
        Parts {
            is_blob: true,
            rest,
            ..
        } => BlobRef::from_bytes(rest)
            .map(Err)
            .ok_or_else(|| "a reference is cut off".into()),
        Parts { rest, .. } => Ok(Ok(rest.to_vec().into())),
    }
}

pub(crate) fn error_body(error: &TaskError) -> Vec<u8> {
    pack(error)
}

pub(crate) fn error_of(body: &[u8]) -> Result<TaskError, Unreadable> {
    unpack(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::NumberSet;
    use crate::store::suite::expanded;

    #[test]
    fn plans_are_recorded_with_plain_numbers() {
        let mut known = NumberSet::default();
        for number in [0, 1, 5] {
            known.add(NodeNumber::new(number));
        }
        let (frame, node) = (FrameNumber::new(2), NodeNumber::new(3));
        for (transition, bytes) in [
            (
                Transition::Expanded(expanded(4, (1, 7), 300)),
                &[2, 0x94, 4, 0x92, 1, 7, 0xcd, 1, 44, 0xc2][..],
            ),
            (Transition::Extended { frame }, &[3, 2]),
            (Transition::Awaited { node, known: None }, &[4, 3]),
            (
                Transition::Awaited {
                    node,
                    known: Some(Box::new(known)),
                },
                &[6, 0x92, 3, 0x92, 0x92, 0, 2, 0x92, 5, 6],
            ),
        ] {
            assert_eq!(plan(&transition).as_deref(), Some(bytes));
            let read = planned_of(bytes).unwrap();
            assert_eq!(format!("{read:?}"), format!("{transition:?}"));
        }
    }
}
