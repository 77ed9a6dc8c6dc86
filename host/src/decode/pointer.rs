//! JSON Pointers (RFC 6901) as one tree, so that a document is searched for all of them in one walk.

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
    /// Places one step further.
    pub children: Vec<Child>,
}

/// A step from a node to the next.
#[derive(Debug)]
pub struct Child {
    /// Name of a member, unescaped.
    pub name: String,
    /// The same as index into an array, where it can be one.
    pub index: Option<usize>,
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

    /// Calls `visit` for the slots of a node and of all below it.
    pub fn each_slot(&self, node: usize, visit: &mut impl FnMut(usize)) {
        let node = &self.nodes[node];
        if let Some(slot) = node.slot {
            visit(slot);
        }
        node.children.iter().for_each(|child| self.each_slot(child.node, visit));
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
        let index = index(&name);
        self.nodes[from].children.push(Child { name, index, node });
        node
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
