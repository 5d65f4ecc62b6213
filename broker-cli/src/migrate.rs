//! `broker migrate`: what a database needs for posting from SQL, run or printed.

use std::process::ExitCode;

use clap::Args;

use crate::{Console, Outcome, hidden::Hidden};

/// Install the SQL functions of PostgreSQL, and the tables of the revocation log
///
/// They are made in the schema `broker`, by a user who owns the database. Running it again does no harm; do so with each new
/// version of this program.
#[derive(Args, Debug)]
pub(crate) struct Migrate {
    /// The database, as in postgres://owner@localhost/shop
    #[arg(required_unless_present = "print")]
    url: Option<Hidden>,
    /// Print the SQL instead, for migrations that are run by other means
    #[arg(long, conflicts_with = "url")]
    print: bool,
}

impl Migrate {
    pub(crate) async fn run(self, console: &mut Console) -> Outcome {
        let Some(url) = self.url else {
            console.write(broker_postgres::MIGRATION.as_bytes()).await?;
            return Ok(ExitCode::SUCCESS);
        };
        broker_postgres::migrate(&url).await?;
        console.note("the schema `broker` is up to date").await;
        Ok(ExitCode::SUCCESS)
    }
}
