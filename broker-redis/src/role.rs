//! Role: what a server says of itself, and whether a post to it reaches everybody.
//!
//! A replica takes posts and subscriptions, and passes the posts to its own clients alone. Nothing at the connection shows
//! that: a master is demoted without a word to its clients. So it is asked at connect, and at each heartbeat again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use broker_core::{ErrorKind, Result, driver::ErrorContext};
use redis::{RedisError, Value, aio::MultiplexedConnection, from_redis_value};
use tokio::time::timeout;

/// How long the server may take to say what it is when a link is opened.
const LIMIT: Duration = Duration::from_secs(1);

const SENTINEL: &str = "is a Sentinel, which passes no messages: write the url as redis+sentinel://HOST,HOST,HOST/?master=NAME, \
                        with every Sentinel of that master";

/// What a server says of itself, as far as it says it: a proxy may not answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Role {
    pub(crate) version: Option<Arc<str>>,
    mode: Option<String>,
    role: Option<String>,
}

impl Role {
    /// What the server at the other end of a new connection is. `None` if it does not say.
    pub(crate) async fn of_new(connection: &MultiplexedConnection) -> Option<Self> {
        timeout(LIMIT, Self::ask(connection)).await.ok()?.ok()
    }

    /// Asks by `HELLO`, which everybody may.
    pub(crate) async fn ask(connection: &MultiplexedConnection) -> std::result::Result<Self, RedisError> {
        let reply = redis::cmd("HELLO").query_async(&mut connection.clone()).await?;
        Ok(Self::read(reply))
    }

    fn read(mut fields: HashMap<String, Value>) -> Self {
        let mut text = |name: &str| from_redis_value::<String>(fields.remove(name)?).ok();
        Self { version: text("version").map(Into::into), mode: text("mode"), role: text("role") }
    }

    /// Whether it is a master, or does not say.
    pub(crate) fn may_be_master(&self) -> bool {
        // Valkey may say `slave` or `replica`, according to its configuration.
        !matches!(self.role.as_deref(), Some("replica" | "slave"))
    }

    /// Whether that server is a member of a cluster, master or not.
    ///
    /// # Errors
    /// It is none, and what to do about it.
    pub(crate) fn check_member(&self, peer: &ErrorContext) -> Result<()> {
        match self.mode.as_deref() {
            None | Some("cluster") => Ok(()),
            Some("sentinel") => Err(peer.error(ErrorKind::Misconfigured, SENTINEL)),
            Some(_) => {
                let why = "is not a member of a Redis Cluster: use redis:// (or rediss://) for a server that stands \
                           alone";
                Err(peer.error(ErrorKind::Misconfigured, why))
            }
        }
    }

    /// Whether all nodes can meet at that server.
    ///
    /// # Errors
    /// They cannot, and what to do about it.
    pub(crate) fn check(&self, peer: &ErrorContext) -> Result<()> {
        if self.mode.as_deref() == Some("cluster") {
            let why = "is a member of a Redis Cluster: use redis+cluster:// (or rediss+cluster://)";
            return Err(peer.error(ErrorKind::Misconfigured, why));
        }
        if self.mode.as_deref() == Some("sentinel") {
            return Err(peer.error(ErrorKind::Misconfigured, SENTINEL));
        }
        if !self.may_be_master() {
            let why = "is a replica: a post to it reaches only its own clients; the address has to lead to the master";
            return Err(peer.error(ErrorKind::Unavailable, why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(mode: &str, role: Option<&str>) -> Option<ErrorKind> {
        let text = |text: &str| Value::BulkString(text.into());
        let mut reply = HashMap::from([("mode".to_owned(), text(mode)), ("proto".to_owned(), Value::Int(3))]);
        reply.extend(role.map(|role| ("role".to_owned(), text(role))));
        let peer = ErrorContext::new("Redis", "127.0.0.1:6379", "nobody");
        Role::read(reply).check(&peer).err().map(|error| error.kind())
    }

    #[test]
    fn only_a_master_will_do() {
        assert_eq!(checked("standalone", Some("master")), None);
        assert_eq!(checked("standalone", Some("replica")), Some(ErrorKind::Unavailable));
        assert_eq!(checked("standalone", Some("slave")), Some(ErrorKind::Unavailable));
        assert_eq!(checked("sentinel", None), Some(ErrorKind::Misconfigured));
        assert_eq!(checked("cluster", Some("master")), Some(ErrorKind::Misconfigured));
    }

    #[test]
    fn another_mode_than_that_of_the_url_is_named_with_its_scheme() {
        let peer = ErrorContext::new("Redis", "127.0.0.1:6379", "nobody");
        let mode = |mode: &str| Role { mode: Some(mode.to_owned()), ..Role::default() };
        for (error, scheme) in [
            (mode("cluster").check(&peer), "redis+cluster://"),
            (mode("sentinel").check(&peer), "redis+sentinel://"),
            (mode("sentinel").check_member(&peer), "redis+sentinel://"),
            (mode("standalone").check_member(&peer), "redis://"),
        ] {
            let error = error.expect_err(scheme);
            assert!(error.message().contains(scheme), "{error}");
        }
    }

    #[test]
    fn what_says_nothing_is_trusted() {
        let peer = ErrorContext::new("Redis", "127.0.0.1:6379", "nobody");
        assert!(Role::default().check(&peer).is_ok());
    }
}
