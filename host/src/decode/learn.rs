//! The layout of one message, found by walking over it once more.
//! Knows what the decoder wants; it is shown only messages that the scanner accepted.

use super::cpu::GAP_MAX;
use super::digits::Form;
use super::escape::unescaped;
use super::layout::{Action, Step};
use super::pointer::Tree;
use super::quick::Target;
use super::scan::{Malformed, Scanner};

/// Steps of one layout, at most.
const STEPS_MAX: usize = 1024;

/// A message's steps, the last of which is its end, and the columns that it has no value for.
#[derive(Debug)]
pub struct Layout {
    pub path: Vec<Step>,
    pub absent: Vec<u32>,
}

/// The message has no layout that always leads to what the scanner finds.
#[derive(Debug)]
pub struct Unlearnable;

impl From<Malformed> for Unlearnable {
    fn from(_: Malformed) -> Self {
        Self
    }
}

/// A walk over a message.
struct Walk<'a> {
    payload: &'a [u8],
    tree: &'a Tree,
    slots: &'a [Vec<Target>],
    scanner: Scanner<'a>,
    path: Vec<Step>,
    /// Where the last value ended.
    behind: usize,
    /// The nodes of the tree that were met as members.
    met: Vec<bool>,
    /// The slots that have a value.
    found: Vec<bool>,
    name: Vec<u8>,
}

/// The layout of `payload` for a decoder of `tree`, each slot of which has columns.
pub fn layout(payload: &[u8], tree: &Tree, slots: &[Vec<Target>]) -> Result<Layout, Unlearnable> {
    let mut walk = Walk {
        payload,
        tree,
        slots,
        scanner: Scanner::new(payload),
        path: Vec::new(),
        behind: 0,
        met: vec![false; tree.nodes()],
        found: vec![false; slots.len()],
        name: Vec::new(),
    };
    walk.value(Some(0))?;
    walk.step(payload.len(), Action::End)?;
    let missing = slots.iter().zip(&walk.found).filter(|(_, found)| !**found);
    let absent = missing.flat_map(|(targets, _)| targets.iter().map(|target| target.column));
    Ok(Layout { absent: absent.collect(), path: walk.path })
}

impl Walk<'_> {
    /// A value at `node`, or one that no pointer leads to.
    fn value(&mut self, node: Option<usize>) -> Result<(), Unlearnable> {
        let first = self.scanner.peek();
        let Some(node) = node.filter(|node| !self.tree.node(*node).children.is_empty()) else {
            return self.leaf(node);
        };
        if self.tree.node(node).slot.is_some() {
            // Wanted as a whole and in parts.
            return Err(Unlearnable);
        }
        match first {
            Some(b'{') => self.object(node),
            Some(b'[') => self.array(node),
            _ => self.leaf(Some(node)),
        }
    }

    fn object(&mut self, node: usize) -> Result<(), Unlearnable> {
        let tree = self.tree;
        self.scanner.enter()?;
        if self.scanner.leave_empty(b'}') {
            return Ok(());
        }
        let mut likely = 0;
        loop {
            let name = self.scanner.member_name()?;
            let name = unescaped(self.payload, name, &mut self.name);
            let wanted = tree.node(node);
            let position = wanted.position(name, likely);
            likely = position.map_or(likely, |it| it + 1);
            self.member(position.map(|it| wanted.children[it].node))?;
            if self.scanner.leave(b'}', "")? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, node: usize) -> Result<(), Unlearnable> {
        let tree = self.tree;
        self.scanner.enter()?;
        if self.scanner.leave_empty(b']') {
            return Ok(());
        }
        let mut items = tree.node(node).items.iter().peekable();
        for index in 0.. {
            let item = items.next_if(|(wanted, _)| *wanted == index);
            self.member(item.map(|&(_, node)| node))?;
            if self.scanner.leave(b']', "")? {
                break;
            }
        }
        Ok(())
    }

    fn member(&mut self, node: Option<usize>) -> Result<(), Unlearnable> {
        if let Some(node) = node {
            // Of members with the same name only the last one counts: what the first one gave would
            // have to be taken back.
            if std::mem::replace(&mut self.met[node], true) {
                return Err(Unlearnable);
            }
        }
        self.value(node)
    }

    /// A value that becomes one step.
    fn leaf(&mut self, node: Option<usize>) -> Result<(), Unlearnable> {
        let depth = self.scanner.depth() as u8;
        let value = self.scanner.value()?;
        let action = match node.map(|node| self.tree.node(node).slot) {
            None => Action::Skip { depth },
            Some(None) => Action::SkipScalar,
            Some(Some(slot)) => {
                self.found[slot] = true;
                match self.slots[slot].as_slice() {
                    [target] if target.form == Form::Kind => {
                        Action::Push(Target { depth, ..*target })
                    }
                    [target] => Action::PushDigits(Target { depth, ..*target }),
                    _ => Action::PushAll { slot: slot as u32, depth },
                }
            }
        };
        self.step(value.start as usize, action)?;
        self.behind = value.end as usize;
        Ok(())
    }

    /// The bytes up to `end`, and what follows them.
    fn step(&mut self, end: usize, action: Action) -> Result<(), Unlearnable> {
        let mut gap = &self.payload[self.behind..end];
        while let Some((piece, rest)) =
            gap.split_at_checked(GAP_MAX).filter(|(_, rest)| !rest.is_empty())
        {
            self.path.push(Step::new(piece, Action::More));
            gap = rest;
        }
        self.path.push(Step::new(gap, action));
        if self.path.len() > STEPS_MAX { Err(Unlearnable) } else { Ok(()) }
    }
}
