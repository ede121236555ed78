use std::sync::Arc;

use super::tables::RunTables;

/// What the bodies of a run's flows were told: of which nodes, in which order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) answers: Vec<Answered>,
    /// Bodies that are told anew what a re-run may have made another: what stands before the keys of their nodes, and
    /// what had been asked for when they were told first.
    loose: Vec<(Option<Arc<str>>, Asked)>,
    /// The first node that was planned after that.
    loose_before: u32,
}

/// That a body was told of a node.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) node: u32,
    /// What had been asked for by then: all else that the body asked for may depend on the answer.
    pub(crate) asked: Asked,
}

/// The nodes that bodies had asked for, in one life of a run.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// All that were recorded by then: the first ones, so many.
    First(u32),
    /// Of a run that was run again, in which bodies ask for recorded nodes again, perhaps not for all of them.
    These(Numbers),
}

impl Asked {
    pub(crate) fn has(&self, node: u32) -> bool {
        match self {
            Self::First(count) => node < *count,
            Self::These(numbers) => numbers.has(node),
        }
    }
}

/// A set of numbers, most of which follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Numbers(Vec<(u32, u32)>);

impl Numbers {
    pub(crate) fn has(&self, number: u32) -> bool {
        let at = self.0.partition_point(|(_, end)| *end <= number);
        self.0.get(at).is_some_and(|(from, _)| *from <= number)
    }

    pub(crate) fn add(&mut self, number: u32) {
        let at = self.0.partition_point(|(_, end)| *end < number);
        match self.0.get_mut(at) {
            Some((from, end)) if *from <= number => *end = (*end).max(number + 1),
            Some((from, _)) if *from == number + 1 => *from = number,
            _ => self.0.insert(at, (number, number + 1)),
        }
        if let Some([(_, end), (from, next_end)]) = self.0.get(at..at + 2)
            && end == from
        {
            self.0[at].1 = *next_end;
            self.0.remove(at + 1);
        }
    }
}

impl Told {
    pub(crate) fn tell(&mut self, node: u32, asked: Option<&Numbers>, tables: &RunTables) {
        let count = || Asked::First(u32::try_from(tables.nodes.len()).unwrap_or(u32::MAX));
        let asked = asked.map_or_else(count, |numbers| Asked::These(numbers.clone()));
        self.answers.push(Answered { node, asked });
    }

    /// Forgets the order in which a body was told of a node that is to run again, and of others after it: the answer may
    /// be another, and come at another time.
    pub(crate) fn clear(&mut self, tables: &RunTables) {
        let mut loose: Vec<(Option<Arc<str>>, Asked)> = Vec::new();
        self.answers.retain(|answered| {
            let Some(meta) = tables.nodes.get(answered.node as usize) else {
                return false;
            };
            if loose.iter().any(|(prefix, _)| *prefix == meta.prefix) {
                return false;
            }
            let is_kept = tables.frames[0]
                .rows
                .get(meta.local as usize)
                .is_some_and(|row| !row.cleared);
            if !is_kept {
                loose.push((meta.prefix.clone(), answered.asked.clone()));
            }
            is_kept
        });
        self.loose = loose;
        self.loose_before = u32::try_from(tables.nodes.len()).unwrap_or(u32::MAX);
    }

    /// Whether a node was asked for by a body that knew what may be another now.
    pub(crate) fn is_loose(&self, node: u32, prefix: Option<&Arc<str>>) -> bool {
        let within = |outer: &Option<Arc<str>>| match (outer, prefix) {
            (None, _) => true,
            (Some(outer), Some(prefix)) => prefix.starts_with(&**outer),
            (Some(_), None) => false,
        };
        node < self.loose_before
            && self
                .loose
                .iter()
                .any(|(outer, asked)| !asked.has(node) && within(outer))
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
            let mut numbers = Numbers::default();
            added.iter().for_each(|number| numbers.add(*number));
            assert_eq!(numbers.0, ranges, "{added:?}");
            assert!(
                (0..12).all(|number| numbers.has(number) == added.contains(&number)),
                "{added:?}"
            );
        }
    }
}
