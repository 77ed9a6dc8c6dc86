//! JSON Pointers (RFC 6901) as one tree, so that a document is searched for all of them in one walk.

use std::collections::HashMap;

/// All pointers of a decoder. Node 0 is the whole document.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    /// For each pointer, in the order given, its slot.
    slots: Vec<usize>,
}

/// A place in a document that a pointer names or leads through.
#[derive(Debug, Default)]
pub struct Node {
    /// Where values found here are noted; `None` when pointers only lead through.
    pub slot: Option<usize>,
    /// Places one step further, in the order in which pointers name them.
    pub children: Vec<Child>,
    /// Where each name stands in `children`; empty while there are few.
    by_name: HashMap<Box<[u8]>, usize>,
    /// Indexes into an array, ascending, and where they lead.
    pub items: Vec<(usize, usize)>,
}

/// So many names are compared one after the other sooner than a hash is made.
const COMPARED_MAX: usize = 8;

impl Node {
    /// Where the member `name` stands in `children`. `likely` is tried first: members tend to come in the order of the
    /// fields.
    #[inline]
    pub fn position(&self, name: &[u8], likely: usize) -> Option<usize> {
        let is_it = |position: &usize| self.children[*position].name.as_bytes() == name;
        if self.by_name.is_empty() {
            return (likely..self.children.len()).chain(0..likely).find(is_it);
        }
        let first = Some(likely).filter(|it| *it < self.children.len()).filter(is_it);
        first.or_else(|| self.by_name.get(name).copied())
    }
}

/// A step from a node to the next.
#[derive(Debug)]
pub struct Child {
    /// Name of a member, unescaped.
    pub name: String,
    /// Where the step leads.
    pub node: usize,
}

impl Tree {
    /// The tree of these pointers.
    pub fn new<'a>(pointers: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut tree = Self { nodes: vec![Node::default()], slots: Vec::new() };
        let mut slots = 0;
        for pointer in pointers {
            let end = tree.path(pointer)?;
            let slot = *tree.nodes[end].slot.get_or_insert_with(|| {
                slots += 1;
                slots - 1
            });
            tree.slots.push(slot);
        }
        tree.nodes.iter_mut().for_each(Node::sort);
        Ok(tree)
    }

    /// The slot of the pointer given as number `pointer`; equal pointers share one.
    pub fn slot(&self, pointer: usize) -> usize {
        self.slots[pointer]
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.nodes.iter().filter(|node| node.slot.is_some()).count()
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// A node.
    #[inline]
    pub fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// The node that a pointer names; made when there is none.
    fn path(&mut self, pointer: &str) -> Result<usize, String> {
        let mut node = 0;
        if pointer.is_empty() {
            return Ok(node);
        }
        let steps = pointer
            .strip_prefix('/')
            .ok_or_else(|| format!("pointer `{pointer}` does not begin with a slash"))?;
        for step in steps.split('/') {
            let name = unescape(step)
                .ok_or_else(|| format!("pointer `{pointer}` has a `~` without 0 or 1 behind it"))?;
            node = self.step(node, name);
        }
        Ok(node)
    }

    fn step(&mut self, from: usize, name: String) -> usize {
        let known = self.nodes[from].children.iter().find(|child| child.name == name);
        if let Some(child) = known {
            return child.node;
        }
        let node = self.nodes.len();
        self.nodes.push(Node::default());
        self.nodes[from].children.push(Child { name, node });
        node
    }
}

impl Node {
    fn sort(&mut self) {
        let index = |child: &Child| Some((index(&child.name)?, child.node));
        self.items = self.children.iter().filter_map(index).collect();
        self.items.sort_unstable();
        if self.children.len() > COMPARED_MAX {
            let names = self.children.iter().map(|child| child.name.as_bytes().into());
            self.by_name = names.zip(0..).collect();
        }
    }
}

/// `~1` is a slash, `~0` a tilde.
fn unescape(step: &str) -> Option<String> {
    let mut parts = step.split('~');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        name.push(match part.as_bytes().first()? {
            b'0' => '~',
            b'1' => '/',
            _ => return None,
        });
        name.push_str(&part[1..]);
    }
    Some(name)
}

/// Digits without leading zeros.
fn index(name: &str) -> Option<usize> {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = name == "0" || !name.starts_with('0');
    (digits && canonical).then(|| name.parse().ok()).flatten()
}
