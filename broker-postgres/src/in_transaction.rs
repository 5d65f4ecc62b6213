//! InTransaction: a post in a transaction of a client that this crate knows. With any other client, run the statement of
//! [`SqlPost`] yourself.

use crate::SqlPost;

/// Posts in a transaction of tokio-postgres: every subscriber receives the message exactly if the transaction commits.
///
/// ```no_run
/// use broker_core::{Channel, ChannelName, Options, Post};
/// use broker_postgres::{SqlPost, post_in};
///
/// # async fn pay(client: &mut tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let post = SqlPost::new(&ChannelName::new("orders.acme")?, Post::from("17 is paid"), &Options::default())?;
/// let transaction = client.transaction().await?;
/// transaction.execute("UPDATE orders SET paid = true WHERE id = 17", &[]).await?;
/// post_in(&transaction, &post).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of the client; the transaction is of no more use then. Not cancel safe: a dropped call may or may not have posted,
/// so roll back after it.
#[cfg(feature = "tokio-postgres-0_7")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio-postgres-0_7")))]
pub async fn post_in(
    transaction: &tokio_postgres::Transaction<'_>,
    post: &SqlPost,
) -> Result<(), tokio_postgres::Error> {
    use tokio_postgres::types::Type;
    let (channels, payloads) = (post.channels(), post.payloads());
    // With the types given it is one round trip, and nothing is left at the server.
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&channels, Type::TEXT_ARRAY), (&payloads, Type::TEXT_ARRAY)];
    transaction.query_typed(SqlPost::STATEMENT, &parameters).await.map(drop)
}

/// Posts in a transaction of sqlx: every subscriber receives the message exactly if the transaction commits.
///
/// # Errors
/// Those of the client; the transaction is of no more use then. Not cancel safe: a dropped call may or may not have posted,
/// so roll back after it.
#[cfg(feature = "sqlx-0_8")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlx-0_8")))]
pub async fn post_in_sqlx(
    transaction: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    post: &SqlPost,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(SqlPost::STATEMENT).bind(post.channels()).bind(post.payloads());
    query.execute(&mut **transaction).await.map(drop)
}
