//! A bounded buffer of log lines.
//!
//! A flood of lines loses its middle. Each source (an attempt of a task, or a run itself) keeps its
//! first [`FIRST`] lines and its most recent ones. Warnings and errors are counted separately from
//! other lines, so that neither pushes out the other. One line marks the gap and counts the missing
//! lines.
//!
//! The memory for all lines together is bounded. Above half of it, each source keeps fewer lines.
//! At the limit, the oldest line of any source is dropped and counted for its run: a counter per
//! source would need the memory that dropping lines frees.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{Hash, Hasher};

use serde_json::{Map, Value};

use crate::log::{LogLevel, LogLine, TARGET};

/// The number of lines kept from the beginning of a source.
pub(crate) const FIRST: usize = 1_000;

/// The number of later lines kept per source, plain ones and warnings each: with memory to spare,
/// and when memory is short.
pub(crate) const LAST: usize = 9_000;
pub(crate) const LAST_AT_LEAST: usize = 1_000;

/// The size of a line in bytes apart from its texts, including its place in its source.
const ENTRY: usize = size_of::<BacklogEntry>() + 100;

/// Lines in the order in which they were pushed.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// The limit on the memory of all lines, in bytes.
    most: usize,
    bytes: usize,
    /// The number of the line that was pushed last.
    last: u64,
    /// By [`Kind`] and number, so that the oldest line of a kind is found at once.
    lines: [BTreeMap<u64, BacklogEntry>; 3],
    /// By the hash of run, task and attempt. Two sources with the same hash would share their
    /// bounds, but nothing else.
    sources: HashMap<u64, Source>,
}

/// The kind of a line. The first kinds are dropped first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    /// A warning or an error.
    Grave,
    /// A count of missing lines.
    Count,
}

#[derive(Clone, Debug)]
struct BacklogEntry {
    line: LogLine,
    /// Set if the line stands for missing lines.
    missing: Option<Missing>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    lines: u64,
    /// The number of warnings and errors among them.
    grave: u64,
}

/// The numbers of a source's lines.
#[derive(Debug, Default)]
struct Source {
    /// The number of lines from its beginning.
    first: usize,
    /// The later lines: plain ones, then warnings and errors.
    later: [VecDeque<u64>; 2],
    /// The line that counts the missing ones.
    gap: Option<u64>,
}

impl Backlog {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            bytes: 0,
            last: 0,
            lines: Default::default(),
            sources: HashMap::new(),
        }
    }

    /// Adds a line at the end.
    pub(crate) fn push(&mut self, line: LogLine) {
        self.last += 1;
        let (key, entry) = (
            key(&line),
            BacklogEntry {
                line,
                missing: None,
            },
        );
        let source = self.sources.entry(key).or_default();
        if source.is_at_its_beginning() {
            source.first += 1;
        } else {
            source.later[entry.kind() as usize].push_back(self.last);
        }
        self.insert(self.last, entry);
        self.thin(key);
        while self.bytes > self.most && self.lose_oldest() {}
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.iter().map(BTreeMap::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.iter().all(BTreeMap::is_empty)
    }

    /// Returns the number of the first line.
    pub(crate) fn first(&self) -> Option<u64> {
        self.lines
            .iter()
            .filter_map(|lines| Some(*lines.first_key_value()?.0))
            .min()
    }

    /// Returns the number of the line that was pushed last, even if it was dropped or taken since.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Removes and returns the first lines: at most `lines`, and none after the first `bytes`
    /// bytes.
    pub(crate) fn take(&mut self, lines: usize, bytes: usize) -> Vec<LogLine> {
        let (mut taken, before) = (Vec::new(), self.bytes);
        while taken.len() < lines && before - self.bytes < bytes {
            let Some(entry) = self.first().and_then(|number| self.remove(number)) else {
                break;
            };
            taken.push(entry.line());
        }
        taken
    }

    /// Returns at most `at_most` lines after a number.
    pub(crate) fn after(&self, number: u64, at_most: usize) -> Vec<LogLine> {
        let Some(from) = number.checked_add(1) else {
            return Vec::new();
        };
        let mut found: Vec<_> = self
            .lines
            .iter()
            .flat_map(|lines| lines.range(from..).take(at_most))
            .collect();
        found.sort_unstable_by_key(|(number, _)| **number);
        let lines = found.into_iter().take(at_most);
        lines
            .map(|(number, entry)| LogLine {
                number: *number,
                ..entry.clone().line()
            })
            .collect()
    }

    /// Drops lines of a source that has too many. Drops at most two, so that a push is never slow:
    /// a source can be far above its limit when the memory becomes short.
    fn thin(&mut self, key: u64) {
        let most = if self.bytes < self.most / 2 {
            LAST
        } else {
            LAST_AT_LEAST
        };
        for _ in 0..2 {
            let Some(source) = self.sources.get(&key) else {
                return;
            };
            let long = source.later.iter().find(|numbers| numbers.len() > most);
            let Some(oldest) = long.and_then(|numbers| numbers.front().copied()) else {
                return;
            };
            if let Some(lost) = self.remove(oldest) {
                self.count(oldest, lost);
            }
        }
    }

    /// Drops the oldest line of the kind that goes first. Returns `false` if there is no line.
    fn lose_oldest(&mut self) -> bool {
        let [plain, grave, counts] = &self.lines;
        // the counts of a huge number of runs must not push out all lines
        let is_crowded = counts.len() > self.len() / 2;
        let kinds = if is_crowded {
            [counts, plain, grave]
        } else {
            [plain, grave, counts]
        };
        let oldest = kinds
            .into_iter()
            .find_map(|lines| Some(*lines.first_key_value()?.0));
        let Some((oldest, lost)) = oldest.and_then(|oldest| Some((oldest, self.remove(oldest)?)))
        else {
            return false;
        };
        // a count of a run itself is dropped: there is no other line to add it to
        if lost.missing.is_none() || lost.line.task.is_some() {
            let LogLine { run, at, level, .. } = lost.line;
            let line = LogLine::new(run, at, level, String::new());
            self.count(oldest, BacklogEntry { line, ..lost });
        }
        true
    }

    /// Counts a dropped line in the gap of its source. The first dropped line is replaced by the
    /// count.
    fn count(&mut self, number: u64, lost: BacklogEntry) {
        let missing = lost.missing.unwrap_or(Missing {
            lines: 1,
            grave: u64::from(lost.kind() == Kind::Grave),
        });
        let source = self.sources.entry(key(&lost.line)).or_default();
        let at = *source.gap.get_or_insert(number);
        if at == number {
            let line = LogLine {
                level: LogLevel::Warn,
                target: TARGET.to_owned(),
                message: String::new(),
                fields: Map::new(),
                ..lost.line
            };
            self.insert(
                number,
                BacklogEntry {
                    line,
                    missing: Some(Missing::default()),
                },
            );
        }
        if let Some(BacklogEntry {
            missing: Some(counted),
            ..
        }) = self.lines[Kind::Count as usize].get_mut(&at)
        {
            counted.lines += missing.lines;
            counted.grave += missing.grave;
        }
    }

    fn insert(&mut self, number: u64, entry: BacklogEntry) {
        self.bytes += weight(&entry.line);
        self.lines[entry.kind() as usize].insert(number, entry);
    }

    /// Removes a line, which must be the oldest of its kind in its source.
    fn remove(&mut self, number: u64) -> Option<BacklogEntry> {
        let entry = self
            .lines
            .iter_mut()
            .find_map(|lines| lines.remove(&number))?;
        self.bytes -= weight(&entry.line);
        let key = key(&entry.line);
        if let Some(source) = self.sources.get_mut(&key) {
            source.forget(number);
            if source.is_empty() {
                self.sources.remove(&key);
            }
        }
        Some(entry)
    }
}

impl BacklogEntry {
    fn kind(&self) -> Kind {
        match self.missing {
            Some(_) => Kind::Count,
            None if self.line.level >= LogLevel::Warn => Kind::Grave,
            None => Kind::Plain,
        }
    }

    /// Returns the line, with the text and the fields of its count.
    fn line(self) -> LogLine {
        let Some(Missing { lines, grave }) = self.missing else {
            return self.line;
        };
        let mut line = self.line;
        line.message =
            format!("{lines} lines are missing here: there were more than could be kept");
        line.fields.insert("dropped".to_owned(), Value::from(lines));
        if grave > 0 {
            line.message
                .push_str(&format!(", {grave} warnings and errors among them"));
            line.fields
                .insert("dropped_warnings".to_owned(), Value::from(grave));
        }
        line
    }
}

impl Source {
    /// Returns `true` if the next line is one of the first.
    fn is_at_its_beginning(&self) -> bool {
        self.first < FIRST && self.has_nothing_later()
    }

    fn has_nothing_later(&self) -> bool {
        self.gap.is_none() && self.later.iter().all(VecDeque::is_empty)
    }

    fn forget(&mut self, number: u64) {
        if self.gap == Some(number) {
            self.gap = None;
        } else if let Some(later) = self
            .later
            .iter_mut()
            .find(|numbers| numbers.front() == Some(&number))
        {
            later.pop_front();
        } else {
            self.first = self.first.saturating_sub(1);
        }
    }

    fn is_empty(&self) -> bool {
        self.first == 0 && self.has_nothing_later()
    }
}

fn key(line: &LogLine) -> u64 {
    let mut hasher = DefaultHasher::new();
    (line.run, &line.task, line.attempt).hash(&mut hasher);
    hasher.finish()
}

/// Returns the approximate size of a line in bytes.
fn weight(line: &LogLine) -> usize {
    let of_field =
        |(name, value): (&String, &Value)| ENTRY + name.len() + value.as_str().map_or(0, str::len);
    // without `..`: a new field is found by the compiler
    let LogLine {
        target,
        message,
        fields,
        task,
        number: _,
        at: _,
        level: _,
        run: _,
        attempt: _,
        map_index: _,
    } = line;
    let fields: usize = fields.iter().map(of_field).sum();
    ENTRY + target.len() + message.len() + task.as_ref().map_or(0, String::len) + fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RunId;
    use crate::store::suite::line;

    const ROOM: usize = 64 << 20;

    fn run(number: u8) -> RunId {
        RunId::from_bytes([number; 16])
    }

    fn of_task(task: &str, level: LogLevel, message: &str) -> LogLine {
        LogLine {
            task: Some(task.to_owned()),
            attempt: Some(1),
            level,
            ..line(run(1), message)
        }
    }

    fn messages(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.message.as_str()).collect()
    }

    /// Returns the number of missing lines, by their counts.
    fn missing(lines: &[LogLine]) -> u64 {
        lines
            .iter()
            .filter_map(|line| line.fields.get("dropped")?.as_u64())
            .sum()
    }

    fn all(backlog: &mut Backlog) -> Vec<LogLine> {
        let kept = backlog.after(0, usize::MAX);
        let taken = backlog.take(usize::MAX, usize::MAX);
        assert_eq!(messages(&kept), messages(&taken));
        assert!(kept.is_sorted_by_key(|line| line.number));
        assert_eq!(
            (backlog.bytes, backlog.len(), backlog.sources.len()),
            (0, 0, 0)
        );
        taken
    }

    #[test]
    fn a_flood_loses_its_middle_and_keeps_its_warnings() {
        let mut backlog = Backlog::new(ROOM);
        for number in 0..50_000 {
            let level = if number % 10_000 == 5_000 {
                LogLevel::Error
            } else {
                LogLevel::Info
            };
            backlog.push(of_task("floods", level, &number.to_string()));
        }
        let lines = all(&mut backlog);
        let expected = FIRST + 1 + 5 + LAST;
        assert_eq!(lines.len(), expected);
        let numbers = |range: std::ops::Range<u32>| {
            range.map(|number| number.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(messages(&lines[..FIRST]), numbers(0..1_000));
        assert_eq!(missing(&lines), 50_000 - expected as u64 + 1);
        assert_eq!(
            (
                lines[FIRST].fields["dropped"].as_u64(),
                &*lines[FIRST].target
            ),
            (Some(39_995), "orchestrator")
        );
        assert_eq!(
            (lines[FIRST].task.as_deref(), lines[FIRST].attempt),
            (Some("floods"), Some(1))
        );
        assert!(
            lines[FIRST]
                .message
                .starts_with("39995 lines are missing here: "),
            "{}",
            lines[FIRST].message
        );
        assert_eq!(
            messages(&lines[FIRST + 1..FIRST + 5]),
            ["5000", "15000", "25000", "35000"]
        );
        assert_eq!(lines[FIRST + 5].message, "40999");
        assert_eq!(lines.last().unwrap().message, "49999");
    }

    #[test]
    fn floods_of_several_tasks_lose_each_its_own_middle() {
        let mut backlog = Backlog::new(ROOM);
        for number in 0..20_000 {
            for task in ["a", "b", "c"] {
                backlog.push(of_task(task, LogLevel::Info, &number.to_string()));
            }
            if number == 10_000 {
                backlog.push(of_task("quiet", LogLevel::Info, "said"));
                backlog.push(LogLine {
                    attempt: Some(2),
                    ..of_task("a", LogLevel::Info, "again")
                });
            }
        }
        let lines = all(&mut backlog);
        for task in ["a", "b", "c"] {
            let of_task: Vec<_> = lines
                .iter()
                .filter(|line| line.task.as_deref() == Some(task) && line.attempt == Some(1))
                .collect();
            assert_eq!(of_task.len(), FIRST + 1 + LAST);
            assert_eq!(of_task[FIRST].fields["dropped"], 10_000);
            assert_eq!(
                (&*of_task[999].message, &*of_task[FIRST + 1].message),
                ("999", "11000")
            );
        }
        assert_eq!(lines.len(), 3 * (FIRST + 1 + LAST) + 2);
    }

    #[test]
    fn a_flood_of_errors_is_bounded_and_counted_and_leaves_other_lines() {
        let mut backlog = Backlog::new(ROOM);
        for number in 0..2_000 {
            backlog.push(of_task("floods", LogLevel::Info, &number.to_string()));
        }
        for number in 0..20_000 {
            backlog.push(of_task("floods", LogLevel::Error, &number.to_string()));
        }
        backlog.push(of_task("floods", LogLevel::Error, "task failed"));
        let lines = all(&mut backlog);
        assert_eq!(lines.len(), 2_000 + 1 + LAST);
        assert_eq!(lines[2_000].fields["dropped"], 11_001);
        assert_eq!(lines[2_000].fields["dropped_warnings"], 11_001);
        assert_eq!(lines.last().unwrap().message, "task failed");
    }

    #[test]
    fn backlog_is_bounded_under_any_flood() {
        let room = 1 << 20;
        for (level, sources) in [
            (LogLevel::Info, 1),
            (LogLevel::Error, 1),
            (LogLevel::Info, 50_000),
            (LogLevel::Warn, 50_000),
        ] {
            let mut backlog = Backlog::new(room);
            let pushed = 50_000;
            for number in 0..pushed {
                let task = format!("task[{}]", number % sources);
                backlog.push(of_task(&task, level, &number.to_string()));
                assert!(backlog.bytes <= room, "{level} of {sources}: line {number}");
            }
            backlog.push(of_task("task[7]", LogLevel::Error, "task failed"));
            let lines = all(&mut backlog);
            let kept = lines.len();
            assert!(kept > 1_000, "{level} of {sources}: {kept}");
            let counts = lines
                .iter()
                .filter(|line| line.fields.contains_key("dropped"))
                .count();
            assert_eq!(counts, 1, "{level} of {sources}");
            let lost = missing(&lines);
            assert_eq!(lost + kept as u64 - 1, pushed + 1, "{level} of {sources}");
            let last = &lines.last().unwrap().message;
            assert_eq!(last, "task failed", "{level} of {sources}");
        }
        // a huge number of runs, each with one line
        let mut backlog = Backlog::new(room);
        for number in 0..50_000_u32 {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_le_bytes());
            backlog.push(line(RunId::from_bytes(id), "said"));
            assert!(backlog.bytes <= room);
        }
        assert_eq!(all(&mut backlog).last().unwrap().message, "said");
    }

    #[test]
    fn drained_source_starts_a_new_count() {
        let mut backlog = Backlog::new(ROOM);
        let flood = |backlog: &mut Backlog, lines: u32| {
            (0..lines).for_each(|number| {
                backlog.push(of_task("floods", LogLevel::Info, &number.to_string()))
            });
        };
        flood(&mut backlog, 10_500);
        let taken = backlog.take(FIRST + 1, usize::MAX);
        assert_eq!(taken[FIRST].fields["dropped"], 500);
        flood(&mut backlog, 100);
        let rest = backlog.take(usize::MAX, usize::MAX);
        assert_eq!((rest.len(), missing(&rest)), (1 + LAST, 100));
        flood(&mut backlog, 10_000);
        assert_eq!(missing(&backlog.after(0, usize::MAX)), 0);
        assert_eq!(backlog.take(usize::MAX, 1).len(), 1);
    }
}
