//! ClusterAddress: from a URL to the members that it names, with every part that does not fit named.

use std::sync::{Mutex, PoisonError};

use broker_core::{
    BrokerUrl, Result,
    driver::{ServerAddr, TlsFiles, random},
};

use crate::address::{Address, DEFAULT_PORT};

/// Whether posts go only to the shard of their channel.
const SHARDED: &str = "sharded";

/// Which members the URL names, and as whom we go to each of the cluster.
#[derive(Debug)]
pub(crate) struct ClusterAddress {
    pub(crate) hosts: Vec<ServerAddr>,
    pub(crate) sharded: bool,
    /// The way to the first of them. That to any other member differs in the server alone.
    base: Address,
    /// The masters of the newest map that a link has had: a new one finds the cluster also when all hosts are gone.
    learned: Mutex<Vec<ServerAddr>>,
}

impl ClusterAddress {
    pub(crate) fn parse(url: &BrokerUrl) -> Result<Self> {
        url.allow_keys_and_hosts(&[TlsFiles::KEYS, &[SHARDED]].concat())?;
        let tls = TlsFiles::parse(url, "rediss+cluster", cfg!(feature = "tls"))?;
        if !url.path().is_empty() {
            return Err(url.invalid("has a path; a cluster has no databases, so leave it out"));
        }
        let sharded = match url.key(SHARDED) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(url.invalid("has a key `sharded` that is neither `true` nor `false`")),
        };
        let hosts = url.servers(DEFAULT_PORT)?;
        let base = Address::of_server(url, &hosts[0], tls)?.of_cluster(url.who("default"));
        Ok(Self { hosts, sharded, base, learned: Mutex::default() })
    }

    /// These are the masters now.
    pub(crate) fn learn(&self, masters: &[ServerAddr]) {
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = masters.to_vec();
    }

    /// The members to begin with: the hosts in random order, and then what else is known.
    pub(crate) fn members(&self) -> Vec<ServerAddr> {
        in_random_order(&[&self.hosts, &self.learned.lock().unwrap_or_else(PoisonError::into_inner)])
    }

    /// The way to a member.
    pub(crate) fn at(&self, member: &ServerAddr) -> Address {
        self.base.at(member)
    }
}

/// How many members are tried for one thing.
const CANDIDATES: usize = 64;

/// Each member once, in the order of the lists, and each list in random order.
pub(crate) fn in_random_order(lists: &[&[ServerAddr]]) -> Vec<ServerAddr> {
    let mut members: Vec<ServerAddr> = Vec::new();
    for list in lists {
        let mut list: Vec<_> = list.iter().filter(|member| !members.contains(member)).cloned().collect();
        list.sort_by_cached_key(|_| random());
        members.extend(list);
    }
    members.truncate(CANDIDATES);
    members
}

#[cfg(test)]
mod tests {
    use broker_core::ErrorKind;

    use super::*;

    fn parse(url: &str) -> Result<ClusterAddress> {
        ClusterAddress::parse(&BrokerUrl::parse(url).unwrap())
    }

    #[track_caller]
    fn refused(url: &str, part: &str) {
        let error = parse(url).expect_err("an error");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }

    #[test]
    fn several_hosts_and_the_kind_of_posts() {
        let address = parse("redis+cluster://ada:s3cret@a,b:7000,[::1]/?prefix=shop").unwrap();
        let hosts: Vec<_> = address.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["a:6379", "b:7000", "[::1]:6379"]);
        assert!(!address.sharded);
        assert!(parse("redis+cluster://a/?sharded=true").unwrap().sharded);
        assert!(!parse("redis+cluster://a/?sharded=false").unwrap().sharded);
        let shown = format!("{address:?} {:?}", address.at(&address.hosts[1]));
        assert!(shown.contains("b:7000") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn what_was_learned_comes_behind_the_hosts() {
        let address = parse("redis+cluster://a,b").unwrap();
        address.learn(&[ServerAddr::new("c", 1), ServerAddr::new("b", 6379)]);
        let members: Vec<_> = address.members().iter().map(ToString::to_string).collect();
        assert_eq!(members.len(), 3);
        assert_eq!(members[2], "c:1");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        refused("redis+cluster://ada:s3cret@a/3", "no databases");
        refused("redis+cluster://ada:s3cret@a/?sharded=yes", "`sharded`");
        refused("redis+cluster://ada:s3cret@a/?protocol=3", "`protocol`");
        refused("redis+cluster://ada:s3cret@a/?ca=/ca.pem", "only for rediss+cluster://");
        refused("redis+cluster:", "names no host");
    }
}
