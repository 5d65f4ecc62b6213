//! Control: statements of the tests themselves at a PostgreSQL, around the driver under test.

use std::{net::SocketAddr, path::Path};

use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use super::config::CONTROL;
use crate::servers::LIMIT;

/// Where the tests' own user reaches a server.
#[derive(Clone, Debug)]
pub struct PostgresControl(Config);

impl PostgresControl {
    /// By the Unix socket in this directory.
    pub(crate) fn at_socket(dir: &Path, port: u16) -> Self {
        let mut config = Config::new();
        config.host_path(dir).port(port);
        Self::with(config)
    }

    /// By TCP.
    pub(crate) fn at(addr: SocketAddr) -> Self {
        let mut config = Config::new();
        config.host(addr.ip().to_string()).port(addr.port());
        Self::with(config)
    }

    fn with(mut config: Config) -> Self {
        config.user(CONTROL).application_name("tests").connect_timeout(LIMIT);
        Self(config)
    }

    /// Runs statements in a database, on a connection of its own, and returns the rows of the last one that has some, as
    /// text. What is null is empty.
    ///
    /// # Errors
    /// Nobody answers, or a statement fails.
    pub async fn run(&self, database: &str, statements: &str) -> Result<Vec<Vec<String>>, String> {
        let mut config = self.0.clone();
        config.dbname(database);
        let (client, connection) = config.connect(NoTls).await.map_err(|error| text(&error))?;
        // No task of its own: cases count them.
        let answer = tokio::select! {
            answer = client.simple_query(statements) => answer.map_err(|error| text(&error))?,
            ended = connection => {
                ended.map_err(|error| text(&error))?;
                return Err("the connection has ended".to_owned());
            }
        };
        let mut rows = Vec::new();
        for message in answer {
            match message {
                SimpleQueryMessage::RowDescription(_) => rows.clear(),
                SimpleQueryMessage::Row(row) => {
                    let value = |at| row.get(at).unwrap_or_default().to_owned();
                    rows.push((0..row.len()).map(value).collect());
                }
                _ => {}
            }
        }
        Ok(rows)
    }

    /// The first value of the answer to a statement.
    ///
    /// # Errors
    /// As [`run`](Self::run), or there is none.
    pub async fn ask(&self, database: &str, statement: &str) -> Result<String, String> {
        let rows = self.run(database, statement).await?;
        let first = rows.into_iter().next().and_then(|row| row.into_iter().next());
        first.ok_or_else(|| format!("no answer to {statement}"))
    }

    /// How many connections of nodes a database has.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn connections(&self, database: &str) -> Result<usize, String> {
        let count = self.ask(database, &format!("SELECT count(*) FROM {}", of_nodes(database))).await?;
        count.parse().map_err(|_| format!("not a number: {count}"))
    }

    /// Ends connections of nodes in a database, those of this name or all, and waits until they are gone.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn end_connections(&self, database: &str, name: Option<&str>) -> Result<(), String> {
        let only = name.map(|name| format!(" AND application_name = {}", literal(name))).unwrap_or_default();
        let wait = LIMIT.as_millis();
        let end = format!("SELECT pg_terminate_backend(pid, {wait}) FROM {}{only}", of_nodes(database));
        self.run(database, &end).await.map(drop)
    }
}

/// The server's table of its connections, only with those of nodes in a database.
fn of_nodes(database: &str) -> String {
    format!("pg_stat_activity WHERE usename <> '{CONTROL}' AND datname = {}", literal(database))
}

/// A text as a statement has it.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{}: {}", error.code().code(), error.message()),
        None => format!("{error}: {:?}", std::error::Error::source(error)),
    }
}
