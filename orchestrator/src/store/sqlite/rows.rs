//! Transitions as rows, and back.
//!
//! A row of `attempts` is a state that a node or an element went over into; a row of `plans` says what was planned, by
//! a first byte that tells what it is. Both are numbered together, in the order in which they were recorded.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::Row as SqlRow;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::blob::BlobRef;
use crate::error::TaskError;
use crate::graph::{NodeMeta, Wired};
use crate::log::LogLevel;
use crate::state::{Rerun, RunKind, RunState, TaskState};
use crate::store::transition::CellRange;
use crate::store::{CacheNote, Cleared, Encoded, FrameMeta, Row, TaskEnd, Transition};

/// What stands in a row beside its numbers.
#[derive(Debug)]
pub(super) enum Body {
    None,
    Bytes(Vec<u8>),
    /// A result that goes into a blob; what comes before the reference.
    Large(Vec<u8>, Encoded),
}

/// Results up to this size stand in their rows.
const INLINE: usize = 1 << 20;

/// What a body begins with: a note of the cache follows; a reference to a blob follows; how long it took follows, in
/// microseconds.
const NOTE: u8 = 1;
pub(super) const BLOB: u8 = 2;
const TOOK: u8 = 4;

macro_rules! codes {
    ($($type:ty: $($state:ident $code:literal),+;)+) => {$(
        impl Code for $type {
            fn code(self) -> i64 {
                match self {
                    $(Self::$state => $code,)+
                }
            }

            fn of(code: i64) -> Option<Self> {
                match code {
                    $($code => Some(Self::$state),)+
                    _ => None,
                }
            }
        }
    )+};
}

/// What stands in the tables for a state. Never changed: rows of old versions are read by new ones.
pub(super) trait Code: Sized {
    fn code(self) -> i64;
    fn of(code: i64) -> Option<Self>;
}

codes! {
    TaskState: Pending 0, Running 1, Retrying 2, Success 3, Failed 4, Skipped 5, UpstreamFailed 6, Cancelled 7;
    RunState: Pending 0, Running 1, Success 2, Failed 3, Cancelled 4;
    RunKind: Manual 0, Scheduled 1, Backfill 2;
    LogLevel: Trace 0, Debug 1, Info 2, Warn 3, Error 4;
}

fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    // of plain structures of ours: nothing in them can refuse
    rmp_serde::to_vec(value).unwrap_or_default()
}

/// Why a row cannot be read.
pub(super) type Unreadable = String;

fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    rmp_serde::from_slice(bytes).map_err(|error| format!("a row cannot be read: {error}"))
}

#[derive(Serialize, Deserialize)]
struct PlannedRow<'a> {
    /// What nodes refer to by number: names, prefixes, types.
    #[serde(borrow)]
    words: Vec<Cow<'a, str>>,
    nodes: Vec<NodeRow>,
}

/// The word for nothing.
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

/// Sixteen bytes as bytes, rather than as sixteen numbers.
mod serde_bytes_16 {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        bytes: &[u8; 16],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
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

/// The words of one row, each once.
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
    let some = |id: u32| (id != u32::MAX).then_some(id);
    let nodes = nodes.iter().map(|node| {
        let wired = node.wired.as_deref();
        let task = wired.map_or(&*node.name, |wired| &*wired.task);
        NodeRow {
            prefix: node.prefix.as_deref().map(|prefix| words.number(prefix)),
            name: words.number(&node.name),
            number: node.number,
            region: some(node.region),
            local: node.local,
            hidden: node.hidden,
            wiring: wired.map(|wired| wired.hash).unwrap_or_default(),
            task: (task != node.name).then(|| words.number(task)),
            output: words.number(wired.map_or("", |wired| &wired.output)),
            upstreams: wired
                .map(|wired| wired.upstreams.to_vec())
                .unwrap_or_default(),
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
        let wired = Wired {
            hash: node.wiring,
            task,
            output: word(node.output)?,
            upstreams: node.upstreams.into(),
        };
        Ok(NodeMeta {
            prefix: node.prefix.map(word).transpose()?,
            name,
            number: node.number,
            region: node.region.unwrap_or(u32::MAX),
            local: node.local,
            hidden: node.hidden,
            wired: Some(Box::new(wired)),
        })
    };
    row.nodes
        .into_iter()
        .map(node)
        .collect::<Result<_, &str>>()
        .map_err(str::to_owned)
}

/// What a row of `plans` says, by its first byte.
const PLANNED: u8 = 1;
const EXPANDED: u8 = 2;
const EXTENDED: u8 = 3;
const AWAITED: u8 = 4;
const CLEARED: u8 = 5;
const AWAITED_AGAIN: u8 = 6;

/// A row of `plans`; `None` for a transition that is none.
pub(super) fn plan(transition: &Transition) -> Option<Vec<u8>> {
    let (tag, rest) = match transition {
        Transition::Planned(nodes) => (PLANNED, planned(nodes)),
        Transition::Expanded(meta) => {
            let region = (meta.region != u32::MAX).then_some(meta.region);
            (
                EXPANDED,
                pack(&(region, meta.parent, meta.len, meta.unexpanded)),
            )
        }
        Transition::Extended { frame } => (EXTENDED, pack(frame)),
        Transition::Awaited { node, asked: None } => (AWAITED, pack(node)),
        Transition::Awaited {
            node,
            asked: Some(asked),
        } => (AWAITED_AGAIN, pack(&(node, asked))),
        Transition::Cleared(Cleared { at, what, ranges }) => {
            let ranges: Vec<_> = ranges
                .iter()
                .map(|range| (range.frame, range.from, range.len))
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

/// The transition that a row of `plans` is.
pub(super) fn planned_of(body: &[u8]) -> Result<Transition, Unreadable> {
    let (tag, rest) = body.split_first().ok_or("a plan is empty")?;
    match *tag {
        PLANNED => nodes(rest).map(Transition::Planned),
        EXPANDED => {
            let (region, parent, len, unexpanded) =
                unpack::<(Option<u32>, (u32, u32), u32, bool)>(rest)?;
            Ok(Transition::Expanded(FrameMeta {
                region: region.unwrap_or(u32::MAX),
                parent,
                len,
                unexpanded,
            }))
        }
        EXTENDED => Ok(Transition::Extended {
            frame: unpack(rest)?,
        }),
        AWAITED => Ok(Transition::Awaited {
            node: unpack(rest)?,
            asked: None,
        }),
        AWAITED_AGAIN => {
            let (node, asked) = unpack(rest)?;
            Ok(Transition::Awaited {
                node,
                asked: Some(asked),
            })
        }
        CLEARED => {
            let (at, what, ranges) = unpack::<(i64, Rerun, Vec<(u32, u32, u32)>)>(rest)?;
            let ranges = ranges
                .into_iter()
                .map(|(frame, from, len)| CellRange { frame, from, len })
                .collect();
            Ok(Transition::Cleared(Cleared { at, what, ranges }))
        }
        other => Err(format!("a plan is of the unknown kind {other}")),
    }
}

/// A row of `attempts`, but for its numbers.
#[derive(Debug)]
pub(super) struct AttemptRow {
    pub(super) frame: u32,
    pub(super) cell: u32,
    pub(super) attempt: u16,
    pub(super) state: i64,
    pub(super) started: i64,
    pub(super) took: i64,
    pub(super) body: Body,
}

impl AttemptRow {
    pub(super) fn new(end: &TaskEnd) -> Self {
        let Row {
            started,
            finished,
            ref error,
            attempts,
            state,
            ..
        } = end.row;
        let note = end.note.as_ref().map(|note| pack(&**note));
        let error = error
            .as_ref()
            .filter(|_| state != TaskState::Success)
            .map(pack);
        let took = end.failed.map(|failed| (failed - started).to_le_bytes());
        let body = match (&end.result, error, took) {
            (Some(result), ..) => result_body(result, note),
            (None, Some(error), Some(took)) => {
                Body::Bytes(prefixed(note, TOOK, &[&took, &*error].concat()))
            }
            (None, Some(error), None) => Body::Bytes(prefixed(note, 0, &error)),
            (None, None, _) if note.is_some() => Body::Bytes(prefixed(note, 0, &[])),
            (None, None, _) => Body::None,
        };
        let took = if finished == 0 { 0 } else { finished - started };
        Self {
            frame: end.frame,
            cell: end.cell,
            attempt: attempts,
            state: state.code(),
            started,
            took,
            body,
        }
    }

    /// The change of state that a row is; its result is in a blob where one is given.
    pub(super) fn read(
        row: &SqlRow<'_>,
        first: usize,
    ) -> Result<(TaskEnd, Option<BlobRef>), Unreadable> {
        let get = |at: usize| {
            row.get::<_, i64>(first + at)
                .map_err(|error| error.to_string())
        };
        let small = |at: usize| u32::try_from(get(at)?).map_err(|error| error.to_string());
        let state = TaskState::of(get(3)?).ok_or("a row has an unknown state")?;
        let attempts = u16::try_from(get(2)?).map_err(|error| error.to_string())?;
        let (started, span) = (get(4)?, get(5)?);
        let finished = if state == TaskState::Running {
            0
        } else {
            started.saturating_add(span)
        };
        let body = row.get_ref(first + 6).map_err(|error| error.to_string())?;
        let body = body
            .as_blob_or_null()
            .map_err(|error| error.to_string())?
            .unwrap_or(&[0]);
        let Parts {
            note,
            took,
            is_blob,
            rest,
        } = split(body)?;
        let (mut error, mut result, mut blob) = (None, None, None);
        match state {
            TaskState::Success if is_blob => {
                blob = Some(BlobRef::from_bytes(rest).ok_or("a reference is cut off")?)
            }
            TaskState::Success if !rest.is_empty() => result = Some(Encoded(rest.into())),
            TaskState::Success => {}
            _ if !rest.is_empty() => error = Some(unpack::<TaskError>(rest)?),
            _ => {}
        }
        let row = Row {
            started,
            finished,
            error,
            attempts,
            state,
            ..Row::PENDING
        };
        let note = note.map(Box::new);
        let failed = took.map(|took| started.saturating_add(took));
        Ok((
            TaskEnd {
                frame: small(0)?,
                cell: small(1)?,
                row,
                failed,
                result,
                note,
                cache: None,
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

/// A result as it stands in a row, or the blob that it goes into.
pub(super) fn result_body(result: &Encoded, note: Option<Vec<u8>>) -> Body {
    match result.0.len() <= INLINE {
        true => Body::Bytes(prefixed(note, 0, &result.0)),
        false => Body::Large(prefixed(note, BLOB, &[]), result.clone()),
    }
}

/// The parts of a body.
struct Parts<'a> {
    note: Option<CacheNote>,
    took: Option<i64>,
    /// Whether the rest is a reference.
    is_blob: bool,
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
        rest,
    })
}

/// A stored result: its bytes, or where they are.
pub(super) fn stored_result(body: &[u8]) -> Result<Result<Encoded, BlobRef>, Unreadable> {
    match split(body)? {
        Parts {
            is_blob: true,
            rest,
            ..
        } => BlobRef::from_bytes(rest)
            .map(Err)
            .ok_or_else(|| "a reference is cut off".into()),
        Parts { rest, .. } => Ok(Ok(Encoded(rest.into()))),
    }
}

pub(super) fn error_body(error: &TaskError) -> Vec<u8> {
    pack(error)
}

pub(super) fn error_of(body: &[u8]) -> Result<TaskError, Unreadable> {
    unpack(body)
}
