use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::tables::RunTables;
use crate::index::{FrameNumber, NodeNumber};

/// The order in which the outcomes of awaited nodes were delivered to the bodies of a run's flows.
///
/// A body can observe the order in which the nodes that it awaits end. A replay must deliver them
/// in the recorded order: otherwise the body may take another branch and request other nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct AwaitOrder {
    pub(crate) deliveries: Vec<Delivery>,
    /// The bodies whose deliveries a re-run invalidated: the key prefix of their nodes, and the
    /// nodes that were known at the first invalidated delivery.
    invalidated: Vec<(Option<Arc<str>>, KnownNodes)>,
    /// The number of recorded nodes at that time.
    invalidated_before: usize,
}

/// The delivery of a node's outcome to the body that awaits it.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) node: NodeNumber,
    /// The nodes that bodies had requested by then. Whatever the body requests later may depend on
    /// the outcome.
    pub(crate) known: KnownNodes,
}

/// The nodes that bodies had requested, in one execution of a run.
#[derive(Clone, Debug)]
pub(crate) enum KnownNodes {
    /// The first nodes, up to this number: all that were recorded by then.
    Prefix(usize),
    /// A set, in a run that was re-run: its bodies request recorded nodes again, but perhaps not
    /// all of them.
    Set(NumberSet),
}

impl KnownNodes {
    pub(crate) fn has(&self, node: NodeNumber) -> bool {
        match self {
            Self::Prefix(count) => node.index() < *count,
            Self::Set(numbers) => numbers.has(node),
        }
    }
}

/// A set of nodes, as ranges of their mostly consecutive numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NumberSet(Vec<NumberRange>);

/// A range of numbers; `end` is excluded. Serialized in this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NumberRange {
    from: u32,
    end: u32,
}

impl NumberSet {
    pub(crate) fn has(&self, node: NodeNumber) -> bool {
        let number = node.get();
        let at = self.0.partition_point(|range| range.end <= number);
        self.0.get(at).is_some_and(|range| range.from <= number)
    }

    pub(crate) fn add(&mut self, node: NodeNumber) {
        let number = node.get();
        let one = NumberRange {
            from: number,
            end: number + 1,
        };
        let at = self.0.partition_point(|range| range.end < number);
        match self.0.get_mut(at) {
            Some(range) if range.from <= number => range.end = range.end.max(one.end),
            Some(range) if range.from == one.end => range.from = number,
            _ => self.0.insert(at, one),
        }
        if let Some([range, next]) = self.0.get(at..at + 2)
            && range.end == next.from
        {
            self.0[at].end = next.end;
            self.0.remove(at + 1);
        }
    }
}

impl AwaitOrder {
    /// Appends a delivery. `known` is the set of requested nodes; `None` means all recorded ones.
    pub(crate) fn record(
        &mut self,
        node: NodeNumber,
        known: Option<&NumberSet>,
        tables: &RunTables,
    ) {
        let count = || KnownNodes::Prefix(tables.nodes.len());
        let known = known.map_or_else(count, |numbers| KnownNodes::Set(numbers.clone()));
        self.deliveries.push(Delivery { node, known });
    }

    /// Forgets the deliveries of nodes that are to run again, and all later deliveries to the same
    /// body: the outcome may differ, and may come at another time.
    pub(crate) fn clear(&mut self, tables: &RunTables) {
        let mut invalidated: Vec<(Option<Arc<str>>, KnownNodes)> = Vec::new();
        self.deliveries.retain(|delivery| {
            let Some(meta) = tables.nodes.get(delivery.node) else {
                return false;
            };
            if invalidated.iter().any(|(prefix, _)| *prefix == meta.prefix) {
                return false;
            }
            let is_kept = tables.frames[FrameNumber::FLOW]
                .rows
                .get(meta.local as usize)
                .is_some_and(|row| !row.cleared);
            if !is_kept {
                invalidated.push((meta.prefix.clone(), delivery.known.clone()));
            }
            is_kept
        });
        self.invalidated = invalidated;
        self.invalidated_before = tables.nodes.len();
    }

    /// Returns `true` if a node was requested by a body that may have depended on an invalidated
    /// delivery.
    pub(crate) fn is_invalidated(&self, node: NodeNumber, prefix: Option<&Arc<str>>) -> bool {
        let within = |outer: &Option<Arc<str>>| match (outer, prefix) {
            (None, _) => true,
            (Some(outer), Some(prefix)) => prefix.starts_with(&**outer),
            (Some(_), None) => false,
        };
        node.index() < self.invalidated_before
            && self
                .invalidated
                .iter()
                .any(|(outer, known)| !known.has(node) && within(outer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_as_few_ranges() {
        for (added, ranges) in [
            (vec![], vec![]),
            (vec![0, 1, 2], vec![(0, 3)]),
            (vec![2, 1, 0, 1], vec![(0, 3)]),
            (vec![0, 2, 4, 1], vec![(0, 3), (4, 5)]),
            (vec![5, 0, 7, 6, 6], vec![(0, 1), (5, 8)]),
            (vec![9, 3, 4, 8, 2], vec![(2, 5), (8, 10)]),
        ] {
            let mut numbers = NumberSet::default();
            for number in &added {
                numbers.add(NodeNumber::new(*number));
            }
            let found: Vec<_> = numbers
                .0
                .iter()
                .map(|range| (range.from, range.end))
                .collect();
            assert_eq!(found, ranges, "{added:?}");
            let is_kept = |number| numbers.has(NodeNumber::new(number)) == added.contains(&number);
            assert!((0..12).all(is_kept), "{added:?}");
        }
    }
}
