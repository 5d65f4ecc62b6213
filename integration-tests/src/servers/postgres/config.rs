//! PostgresConfig: how a test's server is set up, and who may come to it.
//!
//! | user | comes in |
//! |---|---|
//! | `control` | always, and may do everything: for the tests themselves |
//! | `app` | always: the nodes. It owns the database `app` |
//! | `guarded` | with the password `right` |
//! | `certified` | encrypted, and with a client's certificate |
//! | `encrypted` | encrypted only |
//! | `guest` | always. It may create nothing in the database `app` |

use std::path::PathBuf;

use crate::servers::certificates::Certificates;

/// The user of the tests themselves.
pub(crate) const CONTROL: &str = "control";
/// The user of the nodes, and the database that they use.
pub(crate) const APP: &str = "app";

/// Makes the users and the database.
pub(crate) const USERS: &[&str] = &[
    "CREATE ROLE app LOGIN",
    "CREATE ROLE guarded LOGIN PASSWORD 'right'",
    "CREATE ROLE certified LOGIN IN ROLE app",
    "CREATE ROLE encrypted LOGIN IN ROLE app",
    "CREATE ROLE guest LOGIN",
    "CREATE DATABASE app OWNER app",
];

/// How a server is set up. The default loses its data when it is killed.
#[derive(Clone, Debug, Default)]
pub struct PostgresConfig {
    settings: Vec<(&'static str, String)>,
    durable: bool,
    keeps_port: bool,
}

impl PostgresConfig {
    /// With this setting of the server.
    #[must_use]
    pub fn setting(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((name, value.into()));
        self
    }

    /// Keeps its data when it is killed and started again.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Stays at its port when it is started again, for what cannot be led elsewhere. What comes to it while it starts is
    /// refused.
    #[must_use]
    pub fn keeps_port(mut self) -> Self {
        self.keeps_port = true;
        self
    }

    pub(crate) fn stays_at_its_port(&self) -> bool {
        self.keeps_port
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// The settings that do not depend on where the server runs, the last of a name counts.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let ours = [
            // No test takes the power away; but a server that is to be durable says so when it is asked.
            ("fsync", if self.durable { "on" } else { "off" }),
            ("full_page_writes", "off"),
            ("max_connections", "300"),
            ("shared_buffers", "16MB"),
            ("ssl", "on"),
        ];
        ours.map(|(name, value)| (name, value.to_owned())).into_iter().chain(self.settings.clone()).collect()
    }
}

/// The certificate files by the setting that names them.
pub(crate) fn tls_files(certificates: &Certificates) -> [(&'static str, PathBuf); 3] {
    [
        ("ssl_cert_file", certificates.server()),
        ("ssl_key_file", certificates.server_key()),
        ("ssl_ca_file", certificates.authority()),
    ]
}

/// Who may come from where; the first line that fits counts.
pub(crate) fn hosts(network: &str) -> String {
    format!(
        "local all all trust\n\
         local replication {CONTROL} trust\n\
         host replication {CONTROL} {network} trust\n\
         host all guarded {network} scram-sha-256\n\
         hostssl all certified {network} trust clientcert=verify-ca\n\
         hostssl all encrypted {network} trust\n\
         hostnossl all certified,encrypted {network} reject\n\
         host all all {network} trust\n"
    )
}
