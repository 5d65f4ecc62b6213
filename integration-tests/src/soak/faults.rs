//! Faults: what happens to which node when, drawn from a seed.

use std::time::Duration;

/// Something that goes wrong, and is well again after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node is killed, and another takes its place.
    KillNode(usize, Duration),
    /// A node stands still.
    FreezeNode(usize, Duration),
    /// A node's line is cut.
    Cut(usize, Duration),
    /// A node's line swallows everything.
    Stall(usize, Duration),
    /// A node's line swallows what comes from the server: half open.
    HalfOpen(usize, Duration),
    /// A node's line is cut and healed, again and again.
    Flap(usize, u32),
    /// A node's subscribers read nothing.
    Slow(usize, Duration),
    /// The server ends every connection.
    DropLinks,
    /// The server stands still.
    FreezeServer(Duration),
    /// The server is killed, and started again.
    KillServer(Duration),
    /// A member of a cluster is killed, and started again.
    KillMember(usize, Duration),
    /// The member on which most depends is killed, and started again.
    KillLeader(Duration),
    /// A member of a cluster stands still.
    FreezeMember(usize, Duration),
    /// What can happen only to a cluster of this kind, by its name.
    OfCluster(&'static str, Duration),
}

/// The cluster on which faults fall.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// How many members; one without any cluster.
    pub members: usize,
    /// What can happen only to a cluster of this kind.
    pub faults: &'static [&'static str],
}

/// One server.
pub const ONE_SERVER: Target = Target { members: 1, faults: &[] };

impl Fault {
    /// For reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KillNode(..) => "kill node",
            Self::FreezeNode(..) => "freeze node",
            Self::Cut(..) => "cut",
            Self::Stall(..) => "stall",
            Self::HalfOpen(..) => "half open",
            Self::Flap(..) => "flap",
            Self::Slow(..) => "slow reader",
            Self::DropLinks => "drop links",
            Self::FreezeServer(_) => "freeze server",
            Self::KillServer(_) => "kill server",
            Self::KillMember(..) => "kill member",
            Self::KillLeader(_) => "kill leader",
            Self::FreezeMember(..) => "freeze member",
            Self::OfCluster(name, _) => name,
        }
    }
}

/// Draws faults. The same seed draws the same ones.
#[derive(Debug)]
pub struct Draw {
    state: u64,
    nodes: usize,
    /// Nodes are processes, which can stand still.
    processes: bool,
    target: Target,
}

impl Draw {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64, nodes: usize, processes: bool, target: Target) -> Self {
        Self { state: seed, nodes, processes, target }
    }

    /// The next number: splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn millis(&mut self, from: u64, until: u64) -> Duration {
        Duration::from_millis(from + self.below(until - from))
    }

    /// How long nothing happens, and what happens then.
    pub fn next_fault(&mut self) -> (Duration, Fault) {
        let calm = self.millis(300, 2500);
        let node = self.below(self.nodes as u64) as usize;
        let short = self.millis(20, 1500);
        let long = self.millis(500, 6000);
        let fault = match self.below(20) {
            0 | 1 => Fault::KillNode(node, short),
            2 | 3 if self.processes => Fault::FreezeNode(node, long),
            2..=5 => Fault::Cut(node, short),
            6 | 7 => Fault::Stall(node, long),
            8 | 9 => Fault::HalfOpen(node, long),
            10 | 11 => Fault::Flap(node, 2 + self.below(8) as u32),
            12..=14 => Fault::Slow(node, long),
            15 | 16 => Fault::DropLinks,
            17 | 18 => Fault::FreezeServer(long),
            _ => Fault::KillServer(short),
        };
        (calm, if self.target.members > 1 { self.of_cluster(fault, long) } else { fault })
    }

    /// On a cluster: half of the faults fall on its members, and none on all of them at once.
    fn of_cluster(&mut self, fault: Fault, long: Duration) -> Fault {
        let everywhere = matches!(fault, Fault::DropLinks | Fault::FreezeServer(_) | Fault::KillServer(_));
        let (kind, member) = (self.below(8), self.below(self.target.members as u64) as usize);
        match kind {
            0 | 1 => Fault::KillMember(member, long),
            2 => Fault::KillLeader(long),
            3 => Fault::FreezeMember(member, long),
            _ if everywhere && !self.target.faults.is_empty() => {
                let which = self.below(self.target.faults.len() as u64) as usize;
                Fault::OfCluster(self.target.faults[which], long)
            }
            _ if everywhere => Fault::KillMember(member, long),
            _ => fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_draws_the_same_faults_and_every_kind() {
        let draw = |seed| {
            let mut draw = Draw::new(seed, 3, true, ONE_SERVER);
            (0..300).map(|_| draw.next_fault()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let kinds: HashSet<_> = draw(1).iter().map(|(_, fault)| fault.name()).collect();
        assert_eq!(kinds.len(), 10);
    }

    #[test]
    fn nodes_of_one_process_are_not_paused() {
        let mut draw = Draw::new(1, 3, false, ONE_SERVER);
        assert!((0..300).all(|_| draw.next_fault().1.name() != "freeze node"));
    }

    #[test]
    fn a_cluster_suffers_by_its_members_and_never_as_a_whole() {
        let mut draw = Draw::new(1, 3, true, Target { members: 3, faults: &["move a slot"] });
        let kinds: HashSet<_> = (0..300).map(|_| draw.next_fault().1.name()).collect();
        for kind in ["kill member", "kill leader", "freeze member", "move a slot", "cut", "kill node"] {
            assert!(kinds.contains(kind), "{kind}");
        }
        for kind in ["kill server", "freeze server", "drop links"] {
            assert!(!kinds.contains(kind), "{kind}");
        }
    }
}
