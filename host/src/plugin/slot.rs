//! The place of what is in use now, replaced while others use it.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// Contains the current value. Whoever took one keeps it until it asks again.
#[derive(Debug)]
pub struct Slot<T> {
    current: ArcSwap<T>,
}

impl<T> Slot<T> {
    /// A slot with its first value.
    pub fn new(first: Arc<T>) -> Self {
        Self { current: ArcSwap::new(first) }
    }

    /// The current value.
    pub fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// The current value if it is another than `known`; a few nanoseconds when it is not. For a lane
    /// to ask between two batches.
    pub fn newer_than(&self, known: &Arc<T>) -> Option<Arc<T>> {
        let current = self.current.load();
        if Arc::ptr_eq(&current, known) { None } else { Some(Arc::clone(&current)) }
    }

    /// Replaces the value if it is still `current`.
    pub fn replace(&self, current: &Arc<T>, next: Arc<T>) {
        self.current.compare_and_swap(current, next);
    }

    /// Replaces the value. The old one lives as long as somebody uses it.
    pub fn publish(&self, next: Arc<T>) {
        self.current.store(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_learns_of_a_newer_value_once() {
        let slot = Slot::new(Arc::new("first"));
        let known = slot.current();
        assert!(slot.newer_than(&known).is_none());
        slot.publish(Arc::new("second"));
        assert_eq!(*known, "first");
        let known = slot.newer_than(&known).expect("a newer value");
        assert_eq!(*known, "second");
        assert!(slot.newer_than(&known).is_none());
    }
}
