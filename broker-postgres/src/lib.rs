//! The PostgreSQL driver.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod assembly;
mod driver;
mod ear;
mod errors;
#[cfg(any(feature = "tokio-postgres-0_7", feature = "sqlx-0_8"))]
mod in_transaction;
mod inspect;
mod link;
mod log;
mod migration;
mod names;
mod piece;
mod proof;
mod session;
mod socket;
mod sql_post;
#[cfg(feature = "tls")]
mod tls;

#[cfg(feature = "tokio-postgres-0_7")]
pub use in_transaction::post_in;
#[cfg(feature = "sqlx-0_8")]
pub use in_transaction::post_in_sqlx;
pub use migration::{MIGRATION, migrate};
pub use sql_post::SqlPost;

use std::sync::Arc;

use broker_core::{
    BrokerUrl, Result,
    driver::{Backend, Driver, Scheme},
};

/// PostgreSQL, for `postgres://` and `postgresql://`.
pub const BACKEND: Backend = Backend {
    name: NAME,
    schemes: &[
        Scheme::by_key("postgres", address::DEFAULT_PORT, address::SSLMODE, address::DISABLE),
        Scheme::by_key("postgresql", address::DEFAULT_PORT, address::SSLMODE, address::DISABLE),
    ],
    open,
};

const NAME: &str = "postgres";

fn open(url: &BrokerUrl) -> Result<Arc<dyn Driver>> {
    Ok(Arc::new(driver::PostgresDriver::new(address::Address::parse(url)?)))
}
