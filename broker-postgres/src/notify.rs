//! Notify: the statements by which a link posts, prepared once for its session.

use broker_core::{Result, driver::ErrorContext};
use futures_util::future::try_join;
use tokio_postgres::{Client, Error as PgError, Statement, types::Type};

use crate::{SqlPost, errors::translate_opening, session::Session};

/// One payload is the common case of who waits for each post, and half as much work without arrays.
const ONE: &str = "SELECT pg_catalog.pg_notify($1, $2)";

/// See the module. A pooler that lends out connections for single transactions would lose them; the link has found out
/// that there is none.
pub(crate) struct Notify {
    one: Statement,
    many: Statement,
}

impl Notify {
    pub(crate) async fn prepare(session: &Session, peer: &ErrorContext) -> Result<Self> {
        let client = session.client()?;
        let arrays = [Type::TEXT_ARRAY, Type::TEXT_ARRAY];
        let both = try_join(
            client.prepare_typed(ONE, &[Type::TEXT, Type::TEXT]),
            client.prepare_typed(SqlPost::STATEMENT, &arrays),
        );
        let (one, many) = both.await.map_err(|error| translate_opening(peer, &error))?;
        Ok(Self { one, many })
    }

    /// Sends payloads as one transaction, each to its channel of NOTIFY.
    pub(crate) async fn send(
        &self,
        client: &Client,
        channels: &[String],
        payloads: &[String],
    ) -> std::result::Result<(), PgError> {
        let sent = match (channels, payloads) {
            ([channel], [payload]) => client.query(&self.one, &[channel, payload]).await,
            _ => client.query(&self.many, &[&channels, &payloads]).await,
        };
        sent.map(drop)
    }
}
