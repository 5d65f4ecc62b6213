//! ClusterState: whether a member works with the majority of the masters, or has been left behind by it.
//!
//! A member that lost the majority takes posts and subscriptions as before, and nobody else receives them. It says
//! `cluster_state:fail` then; but it says the same while a single master is being replaced, when all others still reach
//! each other.

use super::slots::SlotMap;

/// What a member says of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClusterState {
    pub(crate) ok: bool,
    /// How many slots have a master that this member does not reach.
    out_of_reach: usize,
}

impl ClusterState {
    /// From the reply to `CLUSTER INFO`. `None`: it is not one.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let field = |name| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_ascii)
        };
        let slots = |name| field(name)?.parse::<usize>().ok();
        let ok = match field("cluster_state")? {
            "ok" => true,
            "fail" => false,
            _ => return None,
        };
        Some(Self {
            ok,
            out_of_reach: slots("cluster_slots_pfail")?.checked_add(slots("cluster_slots_fail")?)?,
        })
    }

    /// Whether the member certainly reaches most of the masters, whichever of them the slots out of reach belong to. It
    /// has to know of some: one that has just started reaches nobody yet, and knows of no failure.
    pub(crate) fn reaches_majority(self, map: &SlotMap) -> bool {
        if self.ok {
            return true;
        }
        let mut counts = map.counts();
        counts.sort_unstable();
        let mut left = self.out_of_reach;
        let failed =
            counts.iter().take_while(|count| left.checked_sub(**count).map(|rest| left = rest).is_some());
        let failed = failed.count();
        self.out_of_reach > 0 && failed < counts.len().div_ceil(2)
    }
}

#[cfg(test)]
mod tests {
    use broker_core::driver::ServerAddr;
    use redis::Value;

    use super::*;

    fn state(state: &str, pfail: usize, fail: usize) -> ClusterState {
        let text = format!(
            "cluster_state:{state}\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:0\r\n\
             cluster_slots_pfail:{pfail}\r\ncluster_slots_fail:{fail}\r\n"
        );
        ClusterState::read(&text).unwrap()
    }

    fn map(ranges: &[(i64, i64)]) -> SlotMap {
        let row = |(port, (first, last)): (usize, &(i64, i64))| {
            let node = vec![Value::BulkString("h".into()), Value::Int(port as i64 + 1)];
            Value::Array(vec![Value::Int(*first), Value::Int(*last), Value::Array(node)])
        };
        let asked = ServerAddr::new("h", 1);
        SlotMap::read(Value::Array(ranges.iter().enumerate().map(row).collect()), &asked).unwrap()
    }

    #[test]
    fn one_master_of_three_may_be_missing_and_not_two() {
        let three = map(&[(0, 5460), (5461, 10922), (10923, 16383)]);
        assert!(state("ok", 0, 0).reaches_majority(&three));
        assert!(state("fail", 0, 5462).reaches_majority(&three));
        assert!(state("fail", 5461, 0).reaches_majority(&three));
        assert!(!state("fail", 10922, 0).reaches_majority(&three));
        assert!(!state("fail", 5461, 5462).reaches_majority(&three));
    }

    #[test]
    fn a_failure_that_names_no_slots_is_not_explained() {
        assert!(!state("fail", 0, 0).reaches_majority(&map(&[(0, 5460), (5461, 10922), (10923, 16383)])));
        assert!(!state("fail", 1, 0).reaches_majority(&SlotMap::default()));
    }

    #[test]
    fn small_masters_may_be_the_missing_ones() {
        // 300 slots out of reach may be those of three masters out of five.
        let uneven = map(&[(0, 99), (100, 199), (200, 299), (300, 8000), (8001, 16383)]);
        assert!(!state("fail", 300, 0).reaches_majority(&uneven));
        assert!(state("fail", 200, 0).reaches_majority(&uneven));
    }

    #[test]
    fn other_text_is_no_state() {
        for text in
            ["", "cluster_state:ok", "cluster_state:well\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0"]
        {
            assert_eq!(ClusterState::read(text), None, "{text}");
        }
    }
}
