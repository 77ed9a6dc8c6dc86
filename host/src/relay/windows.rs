//! Which dead letters may be on their way to the topic: of each partition as many as fit into one request, and no more until
//! they are answered. Pure.
//!
//! So the dead letters of a partition arrive in their order also when a request is refused and each dead letter of it is sent alone,
//! and librdkafka has nothing to spin about: one of its threads does while messages wait for a partition whose request is
//! not answered yet (its issues 2565 and 3692).

use std::collections::{BTreeMap, VecDeque};

/// Bytes of one request, far enough below `batch.size` of the producer that no second one is made.
const REQUEST_BYTES: usize = 48 << 10;

/// The dead letters of one delivery, by the partition of the topic they go to.
#[derive(Debug, Default)]
pub(super) struct Windows(BTreeMap<i32, Window>);

#[derive(Debug, Default)]
struct Window {
    /// Numbers and sizes of dead letters that were not sent yet.
    next: VecDeque<(usize, usize)>,
    /// Dead letters of a request that was refused: each is sent alone, before all others.
    one_by_one: VecDeque<usize>,
    under_way: usize,
    /// True when a single dead letter is.
    alone: bool,
}

impl Windows {
    /// Dead letter `number` of `bytes` goes to `partition`, after those that were added before.
    pub fn add(&mut self, number: usize, partition: i32, bytes: usize) {
        self.0.entry(partition).or_default().next.push_back((number, bytes));
    }

    /// Dead letters to be sent now, in this order. Each is answered by [`Windows::acknowledged`] or [`Windows::refused`].
    pub fn take(&mut self) -> Vec<usize> {
        let mut taken = Vec::new();
        for window in self.0.values_mut().filter(|window| window.under_way == 0) {
            let before = taken.len();
            match window.one_by_one.pop_front() {
                Some(number) => taken.push(number),
                None => window.fill(&mut taken),
            }
            window.under_way = taken.len() - before;
            window.alone = window.under_way == 1;
        }
        taken
    }

    /// A dead letter has arrived in `partition`.
    pub fn acknowledged(&mut self, partition: i32) {
        if let Some(window) = self.0.get_mut(&partition) {
            window.under_way -= 1;
        }
    }

    /// A request was refused that had dead letter `number` for `partition`. True when it had no other: it is to blame.
    pub fn refused(&mut self, partition: i32, number: usize) -> bool {
        let Some(window) = self.0.get_mut(&partition) else { return true };
        window.under_way -= 1;
        if !window.alone {
            window.one_by_one.push_back(number);
        }
        window.alone
    }

    /// True when all dead letters were answered.
    pub fn is_done(&self) -> bool {
        self.0
            .values()
            .all(|it| it.under_way == 0 && it.next.is_empty() && it.one_by_one.is_empty())
    }
}

impl Window {
    fn fill(&mut self, taken: &mut Vec<usize>) {
        let mut bytes = 0;
        while let Some(&(number, size)) = self.next.front() {
            if bytes > 0 && bytes + size > REQUEST_BYTES {
                return;
            }
            bytes += size.max(1);
            taken.push(number);
            self.next.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIRD: usize = REQUEST_BYTES / 3;

    #[test]
    fn a_partition_has_one_request_under_way() {
        let mut windows = Windows::default();
        for number in 0..10 {
            windows.add(number, number as i32 % 2, THIRD);
        }
        assert_eq!(windows.take(), [0, 2, 4, 1, 3, 5]);
        assert!(windows.take().is_empty());
        windows.acknowledged(0);
        windows.acknowledged(0);
        assert!(windows.take().is_empty());
        windows.acknowledged(0);
        assert_eq!(windows.take(), [6, 8]);
        (0..3).for_each(|_| windows.acknowledged(1));
        assert_eq!(windows.take(), [7, 9]);
        assert!(!windows.is_done());
        for partition in [0, 1, 0, 1] {
            windows.acknowledged(partition);
        }
        assert!(windows.is_done());
    }

    #[test]
    fn dead_letters_of_a_refused_request_go_alone_and_before_the_next() {
        let mut windows = Windows::default();
        (0..4).for_each(|number| windows.add(number, 0, THIRD));
        assert_eq!(windows.take(), [0, 1, 2]);
        assert!((0..3).all(|number| !windows.refused(0, number)), "nobody is to blame yet");
        assert_eq!(windows.take(), [0]);
        windows.acknowledged(0);
        assert_eq!(windows.take(), [1]);
        assert!(windows.refused(0, 1), "it was alone");
        assert_eq!(windows.take(), [2]);
        windows.acknowledged(0);
        assert_eq!(windows.take(), [3]);
        windows.acknowledged(0);
        assert!(windows.is_done());
    }

    #[test]
    fn a_dead_letter_that_is_larger_than_a_request_goes_alone() {
        let mut windows = Windows::default();
        windows.add(0, 0, 1);
        windows.add(1, 0, REQUEST_BYTES * 2);
        windows.add(2, 0, 1);
        for number in 0..3 {
            assert_eq!(windows.take(), [number]);
            windows.acknowledged(0);
        }
    }
}
