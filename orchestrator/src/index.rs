//! Indexes: a type for each kind of thing that a run has many of, so that the compiler refuses the
//! index of one kind, or of one numbering, where another is meant.
//!
//! A run has two numberings. An *id* (`NodeId`, `FrameId`) counts what this process has planned. A
//! *number* (`NodeNumber`, `FrameNumber`) counts what is recorded in the run's log. The two differ
//! if the run was resumed: its nodes are planned in another order than they were recorded in.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

/// An index of one kind, by which an [`IndexVec`] is indexed.
pub(crate) trait Id: Copy {
    /// Creates the id of the item at an index.
    fn from_index(index: usize) -> Self;

    /// Returns the index of the item.
    fn index(self) -> usize;
}

/// Defines ids. An id holds its index plus one, so that an `Option` of it takes no more memory.
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(NonZeroU32);

        #[allow(dead_code, reason = "not every kind needs every function")]
        impl $name {
            /// The least id.
            pub(crate) const MIN: Self = Self(NonZeroU32::MIN);
            /// The greatest id.
            pub(crate) const MAX: Self = Self(NonZeroU32::MAX);

            /// Creates the id of an index. Indexes are counted in 32 bits: four thousand million
            /// items are more than a machine holds.
            pub(crate) const fn new(index: u32) -> Self {
                Self(NonZeroU32::MIN.saturating_add(index))
            }

            /// Creates the id of the item at an index.
            pub(crate) fn from_index(index: usize) -> Self {
                Self::new(u32::try_from(index).unwrap_or(u32::MAX))
            }

            /// Returns the index.
            pub(crate) const fn get(self) -> u32 {
                self.0.get() - 1
            }

            /// Returns the index of the item.
            pub(crate) const fn index(self) -> usize {
                self.get() as usize
            }

            /// Returns the id of the item that comes `count` items later.
            pub(crate) fn plus(self, count: usize) -> Self {
                Self(self.0.saturating_add(u32::try_from(count).unwrap_or(u32::MAX)))
            }

            /// Returns the ids from this one up to `end`, which is not included.
            pub(crate) fn until(
                self,
                end: Self,
            ) -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
                (self.get()..end.get()).map(Self::new)
            }
        }

        impl Id for $name {
            fn from_index(index: usize) -> Self {
                Self::from_index(index)
            }

            fn index(self) -> usize {
                self.index()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.get().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.get().fmt(f)
            }
        }
    )+};
}

ids! {
    /// A node of a run, in the order of planning. A mapping is named by the id of its own node:
    /// `None` in place of it stands for the flow itself.
    NodeId;
    /// A frame: the table of the cells of the flow, or of one mapping's elements.
    FrameId;
    /// The closure of an `expand` that made nodes, among all of this process.
    StageId;
    /// A gate: the bodies of a run that take the same slots.
    GateId;
    /// A flow of a run: the flow itself, or one that is called in it.
    ScopeId;
    /// A node, by its number in the run's log.
    NodeNumber;
    /// A frame, by its number in the run's log.
    FrameNumber;
}

impl FrameId {
    /// The frame of the flow itself, which has one element.
    pub(crate) const FLOW: Self = Self::MIN;
}

impl FrameNumber {
    /// The frame of the flow itself, which has one element.
    pub(crate) const FLOW: Self = Self::MIN;
}

impl ScopeId {
    /// The flow itself.
    pub(crate) const FLOW: Self = Self::MIN;
}

impl GateId {
    /// The gate of async bodies that need no slots of a pool.
    pub(crate) const PLAIN: Self = Self::MIN;
}

/// A list that is indexed by one kind of id.
pub(crate) struct IndexVec<I, T> {
    items: Vec<T>,
    id: PhantomData<fn(I) -> I>,
}

impl<I: Id, T> IndexVec<I, T> {
    /// Returns how many items there are.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns `true` if there are no items.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the id that the next item gets.
    pub(crate) fn next_id(&self) -> I {
        I::from_index(self.items.len())
    }

    /// Appends an item, and returns its id.
    pub(crate) fn push(&mut self, item: T) -> I {
        let id = self.next_id();
        self.items.push(item);
        id
    }

    /// Appends items.
    pub(crate) fn extend(&mut self, items: impl IntoIterator<Item = T>) {
        self.items.extend(items);
    }

    /// Makes room for more items.
    pub(crate) fn reserve(&mut self, additional: usize) {
        self.items.reserve(additional);
    }

    /// Appends items until there is one with the id.
    pub(crate) fn grow_to(&mut self, id: I, item: impl FnMut() -> T) {
        if self.items.len() <= id.index() {
            self.items.resize_with(id.index() + 1, item);
        }
    }

    /// Removes the items from `first` on, and returns them.
    pub(crate) fn drain_from(&mut self, first: I) -> std::vec::Drain<'_, T> {
        self.items.drain(first.index()..)
    }

    /// Returns an item, if there is one with the id.
    pub(crate) fn get(&self, id: I) -> Option<&T> {
        self.items.get(id.index())
    }

    /// Returns an item, if there is one with the id.
    pub(crate) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        self.items.get_mut(id.index())
    }

    /// Returns the items from `first` on.
    pub(crate) fn tail(&self, first: I) -> &[T] {
        &self.items[first.index()..]
    }

    /// Returns the items from `first` on.
    pub(crate) fn tail_mut(&mut self, first: I) -> &mut [T] {
        &mut self.items[first.index()..]
    }

    /// Iterates over the items.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }

    /// Iterates over the items.
    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.items.iter_mut()
    }

    /// Iterates over the items and their ids.
    pub(crate) fn entries(
        &self,
    ) -> impl DoubleEndedIterator<Item = (I, &T)> + ExactSizeIterator + Clone {
        let id = |(index, item)| (I::from_index(index), item);
        self.items.iter().enumerate().map(id)
    }

    /// Iterates over the ids of the items that there are now, without borrowing them.
    pub(crate) fn ids(&self) -> impl DoubleEndedIterator<Item = I> + ExactSizeIterator + use<I, T> {
        (0..self.items.len()).map(I::from_index)
    }
}

impl<I, T> From<Vec<T>> for IndexVec<I, T> {
    fn from(items: Vec<T>) -> Self {
        Self {
            items,
            id: PhantomData,
        }
    }
}

impl<I, T> FromIterator<T> for IndexVec<I, T> {
    fn from_iter<S: IntoIterator<Item = T>>(items: S) -> Self {
        Self::from(Vec::from_iter(items))
    }
}

impl<I, T> Default for IndexVec<I, T> {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl<I, T: Clone> Clone for IndexVec<I, T> {
    fn clone(&self) -> Self {
        Self::from(self.items.clone())
    }
}

impl<I, T: fmt::Debug> fmt::Debug for IndexVec<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.fmt(f)
    }
}

impl<I: Id, T> Index<I> for IndexVec<I, T> {
    type Output = T;

    fn index(&self, id: I) -> &T {
        &self.items[id.index()]
    }
}

impl<I: Id, T> IndexMut<I> for IndexVec<I, T> {
    fn index_mut(&mut self, id: I) -> &mut T {
        &mut self.items[id.index()]
    }
}

impl<'a, I, T> IntoIterator for &'a IndexVec<I, T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<'a, I, T> IntoIterator for &'a mut IndexVec<I, T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_costs_nothing() {
        assert_eq!(size_of::<Option<NodeId>>(), size_of::<u32>());
    }

    #[test]
    fn an_id_is_its_index() {
        for index in [0, 1, 7, u32::MAX - 1] {
            let id = NodeId::new(index);
            assert_eq!((id.get(), id.index()), (index, index as usize));
            assert_eq!(format!("{id} {id:?}"), format!("{index} {index}"));
        }
        assert_eq!(NodeId::new(u32::MAX), NodeId::MAX);
        assert_eq!(NodeId::from_index(usize::MAX), NodeId::MAX);
        assert_eq!(NodeId::new(3).plus(2), NodeId::new(5));
        assert!(
            NodeId::new(2)
                .until(NodeId::new(4))
                .eq([2, 3].map(NodeId::new))
        );
    }
}
