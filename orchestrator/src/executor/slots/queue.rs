//! Slots of one kind, and the queue of bodies that wait for them.
//!
//! Slots are given first come, first served, with one exception that keeps flows from starving each
//! other. A flow's share is three quarters of the slots. A flow that holds its share gets no more
//! while another flow waits. Slots that it took beyond its share while it was alone are not taken
//! from the others: they may exceed the limit by the same number. Bodies that never return
//! therefore leave a quarter of the slots to other flows, at the cost of up to a quarter more
//! bodies. Fewer than four slots have no quarter, and are strictly first come, first served.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Slots of one kind.
#[derive(Debug)]
pub(crate) struct SlotQueue {
    /// The users of the slots, in words.
    what: String,
    slots: u32,
    /// The number of slots that one flow gets while others wait.
    share: u32,
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    held: u32,
    next_ticket: u64,
    /// The flows that hold slots or wait for some.
    flows: BTreeMap<&'static str, FlowShare>,
}

#[derive(Debug, Default)]
struct FlowShare {
    held: u32,
    waiting: VecDeque<SlotWaiter>,
}

#[derive(Debug)]
struct SlotWaiter {
    ticket: u64,
    slots: u32,
    turn: oneshot::Sender<Slot>,
}

/// One or more acquired slots, released when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    /// `None` once the slots are released.
    queue: Option<Arc<SlotQueue>>,
    flow: &'static str,
    slots: u32,
}

impl SlotQueue {
    /// Creates slots with fair shares for flows.
    pub(crate) fn shared(what: &str, slots: u32) -> Arc<Self> {
        // keeps sums of slot counts from overflowing
        let slots = slots.min(u32::MAX / 4);
        Arc::new(Self {
            what: what.to_owned(),
            slots,
            share: slots - slots / 4,
            state: Mutex::default(),
        })
    }

    /// Creates slots that are given in the order of requests, regardless of the flow.
    pub(crate) fn ordered(what: &str, slots: u32) -> Arc<Self> {
        Arc::new(Self {
            what: what.to_owned(),
            slots,
            share: slots,
            state: Mutex::default(),
        })
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Returns `true` if a body is waiting.
    pub(crate) fn has_waiters(&self) -> bool {
        self.state
            .lock()
            .flows
            .values()
            .any(|flow| !flow.waiting.is_empty())
    }

    /// Acquires slots if they are free.
    pub(crate) fn try_acquire(self: &Arc<Self>, flow: &'static str, slots: u32) -> Option<Slot> {
        let (flow, state) = (self.line(flow), &mut *self.state.lock());
        self.try_take(state, flow, slots)
    }

    fn try_take(
        self: &Arc<Self>,
        state: &mut QueueState,
        flow: &'static str,
        slots: u32,
    ) -> Option<Slot> {
        if state.is_waiting(flow) || !state.may_take(self, flow, slots) {
            return None;
        }
        state.take(flow, slots);
        Some(Slot {
            queue: Some(Arc::clone(self)),
            flow,
            slots,
        })
    }

    /// Returns the flow that slots are counted for: all flows are the same one if the order of
    /// requests decides.
    fn line(&self, flow: &'static str) -> &'static str {
        if self.share == self.slots { "" } else { flow }
    }

    /// Waits for slots.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives up the place in the queue.
    pub(crate) async fn acquire(self: &Arc<Self>, flow: &'static str, slots: u32) -> Slot {
        let flow = self.line(flow);
        let (ticket, turn) = {
            let state = &mut *self.state.lock();
            if let Some(slot) = self.try_take(state, flow, slots) {
                return slot;
            }
            let ((turn, is_turn), ticket) = (oneshot::channel(), state.next_ticket);
            state.next_ticket += 1;
            state
                .flows
                .entry(flow)
                .or_default()
                .waiting
                .push_back(SlotWaiter {
                    ticket,
                    slots,
                    turn,
                });
            (ticket, is_turn)
        };
        let _place = InQueue {
            queue: self,
            flow,
            ticket,
        };
        match turn.await {
            Ok(slot) => slot,
            Err(_) => unreachable!("a waiter is removed when it has its turn or is gone"),
        }
    }

    /// Gives free slots to the bodies whose turn it is.
    fn serve(self: &Arc<Self>, state: &mut QueueState) {
        while let Some(flow) = state.next(self) {
            let Some(waiter) = state
                .flows
                .get_mut(flow)
                .and_then(|flow| flow.waiting.pop_front())
            else {
                return;
            };
            let slots = waiter.slots;
            state.take(flow, slots);
            if let Err(mut slot) = waiter.turn.send(Slot {
                queue: Some(Arc::clone(self)),
                flow,
                slots,
            }) {
                // dropping the slot would lock the state again, and deadlock
                slot.queue = None;
                state.release(flow, slots);
            }
        }
    }
}

impl QueueState {
    /// Returns `true` if a flow may acquire slots now.
    fn may_take(&self, queue: &SlotQueue, flow: &str, slots: u32) -> bool {
        let has_share = self
            .flows
            .get(flow)
            .is_some_and(|own| own.held >= queue.share);
        let is_next = !has_share || self.others(flow).all(|other| other.waiting.is_empty());
        is_next && self.held + slots <= queue.slots + self.lent(queue, flow)
    }

    /// Returns how many slots beyond the limit a flow may have: those that others hold beyond their
    /// share.
    fn lent(&self, queue: &SlotQueue, flow: &str) -> u32 {
        self.others(flow)
            .map(|other| other.held.saturating_sub(queue.share))
            .sum()
    }

    fn others(&self, flow: &str) -> impl Iterator<Item = &FlowShare> {
        self.flows
            .iter()
            .filter(move |(name, _)| **name != flow)
            .map(|(_, other)| other)
    }

    fn is_waiting(&self, flow: &str) -> bool {
        self.flows
            .get(flow)
            .is_some_and(|flow| !flow.waiting.is_empty())
    }

    /// Returns the flow whose body has waited longest, among those that may acquire slots.
    fn next(&self, queue: &SlotQueue) -> Option<&'static str> {
        let first = self
            .flows
            .iter()
            .filter_map(|(name, flow)| Some((flow.waiting.front()?, *name)));
        let may_take = first.filter(|(waiter, flow)| self.may_take(queue, flow, waiter.slots));
        may_take
            .min_by_key(|(waiter, _)| waiter.ticket)
            .map(|(_, flow)| flow)
    }

    fn take(&mut self, flow: &'static str, slots: u32) {
        self.held += slots;
        self.flows.entry(flow).or_default().held += slots;
    }

    fn release(&mut self, flow: &'static str, slots: u32) {
        self.held -= slots;
        if let Some(own) = self.flows.get_mut(flow) {
            own.held -= slots;
        }
        self.forget_idle(flow);
    }

    fn forget_idle(&mut self, flow: &'static str) {
        if self
            .flows
            .get(flow)
            .is_some_and(|flow| flow.held == 0 && flow.waiting.is_empty())
        {
            self.flows.remove(flow);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            let state = &mut *queue.state.lock();
            state.release(self.flow, self.slots);
            queue.serve(state);
        }
    }
}

/// A place in the queue, left when it is dropped.
struct InQueue<'a> {
    queue: &'a Arc<SlotQueue>,
    flow: &'static str,
    ticket: u64,
}

impl Drop for InQueue<'_> {
    fn drop(&mut self) {
        let state = &mut *self.queue.state.lock();
        let Some(flow) = state.flows.get_mut(self.flow) else {
            return;
        };
        // the place is gone already if its turn has come
        if let Ok(place) = flow
            .waiting
            .binary_search_by_key(&self.ticket, |waiter| waiter.ticket)
        {
            flow.waiting.remove(place);
            state.forget_idle(self.flow);
            // a flow with more than its share may have been held up by this place alone
            self.queue.serve(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    use super::*;

    fn ask(queue: &Arc<SlotQueue>, flow: &'static str, slots: u32) -> BoxFuture<'static, Slot> {
        let queue = Arc::clone(queue);
        Box::pin(async move { queue.acquire(flow, slots).await })
    }

    fn got(asked: &mut BoxFuture<'static, Slot>) -> Option<Slot> {
        asked.now_or_never()
    }

    /// Takes as many slots as there are for a flow.
    fn fill(queue: &Arc<SlotQueue>, flow: &'static str) -> Vec<Slot> {
        std::iter::from_fn(|| got(&mut ask(queue, flow, 1))).collect()
    }

    #[test]
    fn slots_beyond_a_flows_share_are_lent_to_others() {
        let queue = SlotQueue::shared("bodies", 8);
        // alone it may have all of them
        let mut greedy = fill(&queue, "greedy");
        assert_eq!(greedy.len(), 8);
        let mut late = fill(&queue, "late");
        assert_eq!(late.len(), 2);
        assert!(fill(&queue, "later").is_empty());
        // what is free goes to those with less than their share
        let mut more = ask(&queue, "greedy", 1);
        let mut waits = ask(&queue, "late", 1);
        assert!(got(&mut more).is_none() && got(&mut waits).is_none());
        greedy.truncate(6);
        assert!(got(&mut more).is_none() && got(&mut waits).is_none());
        // the first that asked has its share
        drop(late.pop());
        assert!(got(&mut more).is_none());
        late.extend(got(&mut waits));
        assert_eq!(late.len(), 2);
        drop(greedy.pop());
        greedy.extend(got(&mut more));
        assert_eq!(greedy.len(), 6);
        drop((greedy, late, more, waits));
        assert!(!queue.has_waiters() && queue.state.lock().flows.is_empty());
    }

    #[test]
    fn a_flow_with_its_share_gets_more_when_the_others_no_longer_wait() {
        let queue = SlotQueue::shared("bodies", 4);
        let (mut one, two) = (fill(&queue, "one"), fill(&queue, "two"));
        assert_eq!((one.len(), two.len()), (4, 1));
        let mut waits = ask(&queue, "two", 1);
        assert!(got(&mut waits).is_none());
        let mut more = ask(&queue, "one", 1);
        assert!(got(&mut more).is_none());
        drop(waits);
        one.truncate(2);
        assert!(got(&mut more).is_some());
        drop(two);
    }

    #[test]
    fn slots_are_given_in_the_order_of_asking() {
        let queue = SlotQueue::ordered("pool", 4);
        let held = fill(&queue, "one");
        let (mut large, mut small) = (ask(&queue, "one", 4), ask(&queue, "two", 1));
        assert!(got(&mut large).is_none() && got(&mut small).is_none());
        let mut held = held.into_iter();
        // a small request does not pass a large one
        drop(held.next());
        assert!(got(&mut large).is_none() && got(&mut small).is_none());
        drop(held);
        let large = got(&mut large);
        assert!(large.is_some() && got(&mut small).is_none());
        drop(large);
        assert!(got(&mut small).is_some());
    }

    #[test]
    fn a_slot_that_is_given_to_a_waiter_that_is_gone_goes_to_the_next() {
        let queue = SlotQueue::shared("bodies", 1);
        let held = fill(&queue, "one");
        let mut places = [
            ask(&queue, "one", 1),
            ask(&queue, "one", 1),
            ask(&queue, "two", 1),
        ];
        assert!(places.iter_mut().all(|place| got(place).is_none()));
        let [first, second, mut third] = places;
        drop(first);
        drop(held);
        // the second has its slot, and does not take it
        drop(second);
        assert!(got(&mut third).is_some());
        drop(third);
        assert!(queue.state.lock().flows.is_empty());
    }
}
