//! NatsConfig: what a test wants of its NATS server, wherever the server runs.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use crate::servers::certificates::Certificates;

/// The user, and its password, with which tests control a server. It is of another account: what it does and
/// hears is no business of the nodes.
pub(crate) const CONTROL: &str = "control";
/// The user, and its password, as which tests publish as another program would.
pub(crate) const STRANGER: &str = "stranger";

/// What a test wants of its NATS server. The default: no password, no TLS, everything allowed, no JetStream.
#[derive(Clone, Debug, Default)]
pub struct NatsConfig {
    jetstream: bool,
    durable: bool,
    password: Option<String>,
    tls: Option<Tls>,
    allowed: Option<Vec<String>>,
    users: Vec<String>,
    lines: Vec<String>,
}

#[derive(Clone, Debug)]
struct Tls {
    certificates: Arc<Certificates>,
    client_certificates: bool,
    first: bool,
}

impl NatsConfig {
    /// Has JetStream, and with it a revocation log.
    #[must_use]
    pub fn jetstream(mut self) -> Self {
        self.jetstream = true;
        self
    }

    /// Keeps what JetStream has when it is killed.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Requires the user `app` and this password. Letters and digits: it goes into a URL as it is.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Speaks TLS, and only TLS, with the server certificate of this set. With `client_certificates`, a
    /// client must show one of the same authority.
    #[must_use]
    pub fn tls(mut self, certificates: Arc<Certificates>, client_certificates: bool) -> Self {
        self.tls = Some(Tls { certificates, client_certificates, first: false });
        self
    }

    /// Speaks TLS from the first byte, before its greeting. For a server with [`tls`](Self::tls).
    #[must_use]
    pub fn tls_first(mut self) -> Self {
        if let Some(tls) = &mut self.tls {
            tls.first = true;
        }
        self
    }

    /// Allows the user `app`, or everyone where there is no password, these subjects only.
    #[must_use]
    pub fn allow(mut self, subjects: &[&str]) -> Self {
        self.allowed = Some(subjects.iter().map(|&subject| subject.to_owned()).collect());
        self
    }

    /// Adds a user: `nkey: UD…`, or `user: anna, password: secret`.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.users.push(user.to_owned());
        self
    }

    /// Adds a line to the configuration: `max_payload: 1024`.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    pub(crate) fn begins_with_tls(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.first)
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// The URL of a server with this configuration.
    pub(crate) fn url_at(&self, addr: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "tls" } else { "nats" };
        let user = self.password.as_ref().map(|password| format!("app:{password}@")).unwrap_or_default();
        format!("{scheme}://{user}{addr}")
    }

    /// The certificate files by the setting that names them, as far as TLS is wanted.
    pub(crate) fn tls_files(&self) -> Vec<(&'static str, PathBuf)> {
        let Some(Tls { certificates, .. }) = &self.tls else { return Vec::new() };
        vec![
            ("cert_file", certificates.server()),
            ("key_file", certificates.server_key()),
            ("ca_file", certificates.authority()),
        ]
    }

    /// The configuration file of a server that listens at these addresses, keeps its data in that directory and
    /// reads those certificate files.
    pub(crate) fn render(
        &self,
        listen: &str,
        monitor: &str,
        store: &str,
        tls_files: &[(&str, String)],
    ) -> String {
        let permissions = self.allowed.as_ref().map(|subjects| {
            let subjects: Vec<String> = subjects.iter().map(|subject| format!("{subject:?}")).collect();
            let subjects = subjects.join(", ");
            format!(", permissions: {{ publish: [{subjects}], subscribe: [{subjects}] }}")
        });
        let (password, permissions) =
            (self.password.as_deref().unwrap_or("app"), permissions.unwrap_or_default());
        let mut users = vec![
            format!("user: app, password: {password:?}{permissions}"),
            format!("user: {STRANGER}, password: {STRANGER}"),
        ];
        users.extend(self.users.iter().cloned());
        let jetstream = if self.jetstream { "enabled" } else { "disabled" };
        let mut lines = vec![
            format!("listen: {listen:?}"),
            format!("http: {monitor:?}"),
            format!("accounts {{ APP {{ jetstream: {jetstream}, users [ {{ {} }} ] }}", users.join(" }, { ")),
            format!("CONTROL {{ users [ {{ user: {CONTROL}, password: {CONTROL} }} ] }} }}"),
            "system_account: CONTROL".to_owned(),
        ];
        if self.jetstream {
            lines.push(format!("jetstream {{ store_dir: {store:?} }}"));
        }
        if self.password.is_none() {
            lines.push("no_auth_user: app".to_owned());
        }
        if let Some(Tls { client_certificates, first, .. }) = &self.tls {
            let files: Vec<String> =
                tls_files.iter().map(|(setting, file)| format!("{setting}: {file:?}")).collect();
            let (files, verify) = (files.join(", "), client_certificates);
            lines.push(format!("tls {{ {files}, verify: {verify}, handshake_first: {first} }}"));
        }
        lines.extend(self.lines.iter().cloned());
        lines.join("\n") + "\n"
    }
}
