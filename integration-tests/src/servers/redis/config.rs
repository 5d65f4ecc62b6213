//! RedisConfig: what a test wants of its Redis, wherever the server runs.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use redis::RedisConnectionInfo;

use crate::servers::certificates::Certificates;

/// The ACL user, and its password, with which tests control the server whatever its configuration.
const CONTROL: &str = "control";

/// What a test wants of its Redis. The default: no password, no TLS, nothing written to disk.
#[derive(Clone, Debug, Default)]
pub struct RedisConfig {
    password: Option<String>,
    tls: Option<Tls>,
    lines: Vec<String>,
    sentinel: bool,
}

#[derive(Clone, Debug)]
struct Tls {
    certificates: Arc<Certificates>,
    client_certificates: bool,
}

impl RedisConfig {
    /// Requires a password of the default user. Letters and digits: it goes into a URL as it is.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Adds an ACL user by its rules: `anna on >secret ~* &orders:* +@all`. Not called `control`.
    #[must_use]
    pub fn user(self, rules: &str) -> Self {
        self.line(&format!("user {rules}"))
    }

    /// Speaks TLS, and only TLS, with the server certificate of this set. With `client_certificates`, a
    /// client must show one of the same authority.
    #[must_use]
    pub fn tls(mut self, certificates: Arc<Certificates>, client_certificates: bool) -> Self {
        self.tls = Some(Tls { certificates, client_certificates });
        self
    }

    /// Adds a line of `redis.conf`: `maxclients 5`.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Keeps its data on disk, each change before it answers.
    #[must_use]
    pub fn durable(self) -> Self {
        self.line("appendonly yes").line("appendfsync always")
    }

    /// A Sentinel, which watches nothing.
    #[must_use]
    pub fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Whether it is a Sentinel.
    #[must_use]
    pub fn is_sentinel(&self) -> bool {
        self.sentinel
    }

    /// Whether nothing was asked for, so that any Redis will do.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.password.is_none() && self.tls.is_none() && self.lines.is_empty() && !self.sentinel
    }

    /// Whether clients must speak TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The URL of a server with this configuration.
    pub(crate) fn url_at(&self, addr: SocketAddr) -> String {
        let scheme = if self.is_tls() { "rediss" } else { "redis" };
        let password = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("{scheme}://{password}{addr}")
    }

    /// The certificate files by the setting that names them, as far as TLS is wanted.
    pub(crate) fn tls_files(&self) -> Vec<(&'static str, PathBuf)> {
        let Some(Tls { certificates, .. }) = &self.tls else { return Vec::new() };
        vec![
            ("tls-cert-file", certificates.server()),
            ("tls-key-file", certificates.server_key()),
            ("tls-ca-cert-file", certificates.authority()),
        ]
    }

    /// How the tests' own control connection authenticates.
    pub(crate) fn control_user() -> RedisConnectionInfo {
        RedisConnectionInfo::default().set_username(CONTROL).set_password(CONTROL)
    }

    /// The lines of `redis.conf` that do not depend on where the server runs.
    pub(crate) fn render(&self) -> String {
        let mut lines = vec![
            "save \"\"".to_owned(),
            "appendonly no".to_owned(),
            "daemonize no".to_owned(),
            format!("user {CONTROL} on >{CONTROL} ~* &* +@all"),
        ];
        lines.extend(self.password.as_ref().map(|password| format!("requirepass {password}")));
        if let Some(Tls { client_certificates, .. }) = &self.tls {
            lines.push(format!("tls-auth-clients {}", if *client_certificates { "yes" } else { "no" }));
        }
        lines.extend(self.lines.iter().cloned());
        lines.join("\n") + "\n"
    }
}
