//! Sentinel: the master of several Redis servers, wherever its Sentinels say that it is.
//!
//! The redis client has a lookup of its own. It believes the first Sentinel that answers, needs wider permissions, and
//! never notices a switch.

mod link;
mod views;
mod watch;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use broker_core::{
    BrokerUrl, Error, Result,
    driver::{ConnectContext, Driver, Inbox, Link, ServerAddr, TlsFiles},
};
use tokio::time::sleep;

use self::{link::SentinelLink, watch::Watch};
use crate::{
    NAME,
    address::{Address, check_database},
    driver::RedisDriver,
    link::RedisLink,
};

pub(crate) const SCHEME: &str = "redis+sentinel";
pub(crate) const ENCRYPTED: &str = "rediss+sentinel";
pub(crate) const DEFAULT_PORT: u16 = 26379;
const KEYS: [&str; 3] = ["master", "sentinel_user", "sentinel_password"];
/// For so long an attempt waits at a master that cannot be reached whether the Sentinels name another one.
const FAIL_OVER: Duration = Duration::from_secs(2);

/// The Sentinels of a URL, and what they are asked for.
#[derive(Debug)]
pub(crate) struct Sentinels {
    /// Each with its server.
    addresses: Vec<Address>,
    /// The name of the master.
    master: String,
}

/// A way to the master of several Redis servers.
#[derive(Debug)]
pub(crate) struct SentinelDriver {
    sentinels: Arc<Sentinels>,
    /// The way to whatever server they name.
    server: Address,
}

impl SentinelDriver {
    pub(crate) fn parse(url: &BrokerUrl) -> Result<Self> {
        url.allow_keys_and_hosts(&[&KEYS[..], TlsFiles::KEYS].concat())?;
        let tls = TlsFiles::parse(url, ENCRYPTED, cfg!(feature = "tls"))?;
        let [master, user, password] = KEYS.map(|key| url.key(key));
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let master = master.filter(|name| !name.is_empty() && name.chars().all(fits)).ok_or_else(|| {
            url.invalid("names no master; add the key `master`, with the name by which its Sentinels know it")
        })?;
        check_database(url)?;
        let servers = url.servers(DEFAULT_PORT)?;
        for (number, server) in servers.iter().enumerate() {
            if servers[..number].contains(server) {
                return Err(url.invalid(format!("names the Sentinel {server} twice; each has one vote")));
            }
        }
        let addresses = servers.iter().map(|server| Address::of_server(url, server, tls.clone()));
        let addresses = addresses.collect::<Result<Vec<_>>>()?;
        let server = Address::of_server(url, &servers[0], tls.clone())?;
        let who = format!("the Sentinel's user {:?}", user.unwrap_or("default"));
        let of_sentinel = |address: Address| address.of_sentinel(&who, user, password);
        Ok(Self {
            server: server.of_sentinel(&url.who("default"), url.username(), url.password()),
            sentinels: Arc::new(Sentinels {
                addresses: addresses.into_iter().map(of_sentinel).collect(),
                master: master.to_owned(),
            }),
        })
    }

    /// A link to the server that the Sentinels name. Where it cannot be opened, it takes a while to say so: they may be
    /// about to name another one.
    async fn link(&self, master: &ServerAddr, inbox: Inbox) -> Result<RedisLink> {
        let error = match RedisDriver(self.server.at(master)).reach(inbox).await {
            Ok(link) => return Ok(link),
            Err(error) => error,
        };
        if error.is_transient() {
            sleep(FAIL_OVER).await;
        }
        let (name, cause) = (&self.sentinels.master, error.message());
        let why = format!("{cause} (the master `{name}`, as its Sentinels say)");
        Err(Error::new(error.kind(), why).with_source(error))
    }
}

#[async_trait]
impl Driver for SentinelDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    /// It follows the Sentinels where they name another master meanwhile.
    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        let watch = Watch::start(&self.sentinels);
        let mut at = watch.master().await?;
        loop {
            tokio::select! {
                biased;
                (other, _) = watch.other_than(at.clone()) => at = other,
                linked = self.link(&at, context.inbox.clone()) => {
                    let master = linked?;
                    watch.guard(at, context.inbox);
                    return Ok(Box::new(SentinelLink { master, watch }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
