//! Pages that requests share, by the tokens they stand for. A node is one page; the way to it from the root spells all
//! tokens up to its end, and an edge is taken on equal tokens only, never on an equal hash.
//!
//! An edge also carries whose it is. Those of no tenant (the operator's own warm-up, or all of them where everybody
//! shares) are open to all; behind a tenant's edge nobody else can look, so the time an answer takes says nothing about
//! what others asked. Must never drop a page that a request uses, nor one that has others behind it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use weir_kernels::PANEL;

use super::page::Page;
use super::pool::Lease;

pub(crate) type NodeId = usize;

/// With whom a request shares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sharing {
    /// The tenant; `None`: everybody.
    pub(crate) salt: Option<Arc<str>>,
    /// Tokens that see each other: a block's length, 1 for a causal model. Divides 32, so that a page is whole blocks.
    pub(crate) block: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Edge {
    from: Option<NodeId>,
    sharing: Sharing,
    tokens: [u32; PANEL],
}

struct Node {
    edge: Edge,
    children: usize,
    /// When it was last asked for.
    used: u64,
    page: Arc<Page>,
    lease: Lease,
}

/// The pages in it, and the order in which they may go.
#[derive(Default)]
pub(super) struct Tree {
    nodes: HashMap<NodeId, Node>,
    edges: HashMap<Edge, NodeId>,
    /// Nodes without children, the longest unused first.
    leaves: BTreeSet<(u64, NodeId)>,
    next: NodeId,
    /// Counts uses; there is no need of real time.
    clock: u64,
    pub(super) evicted: u64,
}

impl Tree {
    /// Nodes, each one page.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes that no request uses. All of them can be thrown out: who uses one uses those before it.
    pub(super) fn idle(&self) -> usize {
        self.nodes.values().filter(|node| Arc::strong_count(&node.page) == 1).count()
    }

    /// Pages the nodes' leases are for: [`Tree::len`], counted the long way.
    pub(super) fn leased(&self) -> usize {
        self.nodes.values().map(|node| node.lease.pages()).sum()
    }

    pub(super) fn holds(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// The node behind `from` for these 32 tokens, and its page. Counts as a use.
    pub(super) fn step(
        &mut self,
        from: Option<NodeId>,
        sharing: &Sharing,
        tokens: &[u32; PANEL],
    ) -> Option<(NodeId, Arc<Page>)> {
        let open = Sharing { salt: None, block: sharing.block };
        let edge = |sharing: &Sharing| Edge { from, sharing: sharing.clone(), tokens: *tokens };
        let found = self.edges.get(&edge(&open)).or_else(|| self.edges.get(&edge(sharing)));
        let id = *found?;
        self.clock += 1;
        let node = self.nodes.get_mut(&id)?;
        if self.leaves.remove(&(node.used, id)) {
            self.leaves.insert((self.clock, id));
        }
        node.used = self.clock;
        Some((id, Arc::clone(&node.page)))
    }

    /// Adds a page behind `from`, where [`Tree::step`] found none. `lease` is for this one page.
    pub(super) fn add(
        &mut self,
        from: Option<NodeId>,
        sharing: &Sharing,
        tokens: &[u32; PANEL],
        (page, lease): (Arc<Page>, Lease),
    ) -> NodeId {
        self.clock += 1;
        let (id, used) = (self.next, self.clock);
        self.next += 1;
        if let Some((from, parent)) = from.and_then(|from| Some((from, self.nodes.get_mut(&from)?))) {
            parent.children += 1;
            self.leaves.remove(&(parent.used, from));
        }
        let edge = Edge { from, sharing: sharing.clone(), tokens: *tokens };
        self.edges.insert(edge.clone(), id);
        self.leaves.insert((used, id));
        self.nodes.insert(id, Node { edge, children: 0, used, page, lease });
        id
    }

    /// Drops the leaf that was not used for longest and that no request uses. False when there is none.
    pub(super) fn evict(&mut self) -> bool {
        let idle = |id: &NodeId| self.nodes.get(id).is_some_and(|node| Arc::strong_count(&node.page) == 1);
        let Some((used, id)) = self.leaves.iter().copied().find(|(_, id)| idle(id)) else {
            return false;
        };
        self.leaves.remove(&(used, id));
        self.evicted += 1;
        if let Some(node) = self.nodes.remove(&id) {
            self.edges.remove(&node.edge);
            if let Some((from, parent)) = node.edge.from.and_then(|from| Some((from, self.nodes.get_mut(&from)?))) {
                parent.children -= 1;
                if parent.children == 0 {
                    self.leaves.insert((parent.used, from));
                }
            }
        }
        true
    }
}
