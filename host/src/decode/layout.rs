//! Layouts: the bytes between the values of messages that were seen before, and what stands between them.
//! Knows no JSON; it compares bytes, and asks `quick` for the values.
//!
//! Messages of one producer look alike, and those of several share at least their beginning. So the
//! layouts form a tree: a step is the bytes up to a value and what becomes of the value; where the bytes
//! differ, the step names another one to try at the same place. A message is read along one path, never
//! twice, however many layouts there are. At one place at most one step can succeed, because bytes that
//! were read so far determine what may follow: the order of the steps changes the speed only.

use super::cpu::{Cpu, GAP_MAX, Task};
use super::digits::{self, Form};
use super::learn::Layout;
use super::quick::{self, Target};
use super::simd::Cursor;
use crate::columns::Column;

/// Layouts that are known at the same time. Each field that may be missing doubles the number of those
/// that messages have; looking at one costs a nanosecond where it differs.
const LAYOUTS_MAX: usize = 16;

/// Steps of all layouts together: 256 KiB.
const STEPS_MAX: usize = 4096;

/// Messages of unknown layout after which all layouts are forgotten and those of the next messages
/// are learned, when there is no more room: a producer that changes is learned again, and messages
/// that are all different cost next to nothing.
const PATIENCE: u32 = 1024;

/// Names no step.
const NONE: u32 = u32::MAX;

/// What becomes of the value behind a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Appended to a column, as its kind says.
    Push(Target),
    /// Appended to a column, in another form.
    PushDigits(Target),
    /// Appended to all columns of the slot, which are several.
    PushAll { slot: u32, depth: u8 },
    /// Of no interest, but JSON.
    Skip { depth: u8 },
    /// As `Skip`, but no object and no array: something in there would be of interest.
    SkipScalar,
    /// There is none, the gap goes on.
    More,
    /// There is none, the payload ends.
    End,
}

/// The bytes up to a value, and what becomes of it.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub struct Step {
    gap: [u8; GAP_MAX],
    length: u8,
    action: Action,
    /// The next step when this one succeeds; behind the end, index in [`Layouts::absent`].
    then: u32,
    /// The step to try in place of this one when it fails.
    otherwise: u32,
}

impl Step {
    /// A step over the first bytes of `gap`, at most [`GAP_MAX`].
    pub fn new(gap: &[u8], action: Action) -> Self {
        let mut step = Self {
            gap: [0; GAP_MAX],
            length: gap.len() as u8,
            action,
            then: NONE,
            otherwise: NONE,
        };
        step.gap[..gap.len()].copy_from_slice(gap);
        step
    }

    fn is(&self, other: &Self) -> bool {
        (self.length, self.gap, self.action) == (other.length, other.gap, other.action)
    }
}

/// Where a step is named.
#[derive(Debug, Clone, Copy)]
enum Link {
    /// As the beginning of every message.
    Start,
    /// As what follows this step.
    Then(u32),
    /// As what to try in place of this step.
    Otherwise(u32),
}

/// All layouts of a decoder.
#[derive(Debug, Default)]
pub struct Layouts {
    /// The first one is the beginning of every message.
    steps: Vec<Step>,
    /// For each layout the columns that it has no value for.
    absent: Vec<Vec<u32>>,
    /// Messages that were to be learned since all layouts were forgotten, whether or not it went well.
    lessons: usize,
    /// Messages that no layout fitted since then.
    misses: u32,
}

/// The columns of each slot, and room for unescaped text.
pub struct Targets<'a> {
    pub slots: &'a [Vec<Target>],
    pub columns: &'a mut [Column],
    pub room: &'a mut Vec<u8>,
}

impl Layouts {
    /// Appends the values of the message at the cursor to the columns. False when no layout fits, or
    /// a value does not: then some columns may have it already.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `Cpu`")]
    pub fn read<C: Cpu>(&self, cpu: C, mut cursor: Cursor<'_>, targets: &mut Targets<'_>) -> bool {
        let mut next = 0;
        while let Some(step) = self.steps.get(next as usize) {
            let before = cursor;
            if self.take(cpu, step, &mut cursor, targets).is_some() {
                if step.action == Action::End {
                    return true;
                }
                next = step.then;
            } else {
                cursor = before;
                next = step.otherwise;
            }
        }
        false
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `Cpu`")]
    fn take<C: Cpu>(
        &self,
        cpu: C,
        step: &Step,
        cursor: &mut Cursor<'_>,
        targets: &mut Targets<'_>,
    ) -> Option<()> {
        let length = usize::from(step.length);
        if !cpu.is_gap_ahead(cursor.ahead(), &step.gap, length) {
            return None;
        }
        cursor.advance(length)?;
        match &step.action {
            Action::Push(target) => {
                let column = &mut targets.columns[target.column as usize];
                quick::push(cpu, cursor, *target, column, targets.room)
            }
            Action::PushDigits(target) => {
                let column = &mut targets.columns[target.column as usize];
                digits::push_quickly(cpu, cursor, *target, column, targets.room)
            }
            Action::Skip { depth } => quick::skip(cpu, cursor, *depth),
            Action::SkipScalar if matches!(cursor.byte(), b'{' | b'[') => None,
            Action::SkipScalar => quick::skip(cpu, cursor, 0),
            Action::More => Some(()),
            Action::PushAll { slot, depth } => {
                let all = PushAll { cursor: *cursor, slot: *slot, depth: *depth, targets };
                *cursor = cpu.run(all)?;
                Some(())
            }
            Action::End if !cursor.is_at_end() => None,
            Action::End => {
                for column in &self.absent[step.then as usize] {
                    targets.columns[*column as usize].push_null();
                }
                Some(())
            }
        }
    }

    /// True when the layout of a message that none fitted is to be learned.
    pub fn want(&mut self) -> bool {
        self.misses += 1;
        if self.lessons >= LAYOUTS_MAX && self.misses > PATIENCE {
            *self = Self::default();
        }
        self.lessons += 1;
        self.lessons <= LAYOUTS_MAX
    }

    /// Messages that no layout fitted since all were forgotten.
    #[cfg(test)]
    pub fn misses(&self) -> u32 {
        self.misses
    }

    /// How many layouts there are, and how many steps.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize) {
        (self.absent.len(), self.steps.len())
    }

    /// Adds a layout.
    pub fn add(&mut self, layout: Layout) {
        let Layout { path, absent } = layout;
        if self.steps.len() + path.len() > STEPS_MAX {
            return;
        }
        let mut from = Link::Start;
        for step in path {
            let is_end = step.action == Action::End;
            let found = self.find(&step, from);
            let at = found.unwrap_or_else(|link| self.link(step, link));
            if is_end && found.is_err() {
                self.steps[at as usize].then = self.absent.len() as u32;
                self.absent.push(absent);
                return;
            }
            from = Link::Then(at);
        }
    }

    /// The step like this one among those to try at `link`; where to link it when there is none.
    fn find(&self, step: &Step, mut link: Link) -> Result<u32, Link> {
        loop {
            let next = match link {
                Link::Start => 0,
                Link::Then(from) => self.steps[from as usize].then,
                Link::Otherwise(from) => self.steps[from as usize].otherwise,
            };
            match self.steps.get(next as usize) {
                None => return Err(link),
                Some(known) if known.is(step) => return Ok(next),
                Some(_) => link = Link::Otherwise(next),
            }
        }
    }

    fn link(&mut self, step: Step, link: Link) -> u32 {
        let at = self.steps.len() as u32;
        self.steps.push(step);
        match link {
            Link::Start => {}
            Link::Then(from) => self.steps[from as usize].then = at,
            Link::Otherwise(from) => self.steps[from as usize].otherwise = at,
        }
        at
    }
}

/// A value for several columns, or for none of them.
struct PushAll<'a, 'b, 'c> {
    cursor: Cursor<'a>,
    slot: u32,
    depth: u8,
    targets: &'b mut Targets<'c>,
}

impl<'a> Task for PushAll<'a, '_, '_> {
    type Result = Option<Cursor<'a>>;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `Cpu`")]
    fn run<C: Cpu>(self, cpu: C) -> Self::Result {
        let Targets { slots, columns, room } = self.targets;
        let slot = &slots[self.slot as usize];
        let mut behind = None;
        for (index, target) in slot.iter().enumerate() {
            let (mut cursor, target) = (self.cursor, Target { depth: self.depth, ..*target });
            let column = &mut columns[target.column as usize];
            let pushed = match target.form {
                Form::Kind => quick::push(cpu, &mut cursor, target, column, room),
                _ => digits::push_quickly(cpu, &mut cursor, target, column, room),
            };
            if pushed.is_none() {
                for target in &slot[..index] {
                    let column = &mut columns[target.column as usize];
                    column.truncate(column.len() - 1);
                }
                return None;
            }
            behind = Some(cursor);
        }
        behind
    }
}
