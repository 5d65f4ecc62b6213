//! `broker revoke`: ends sessions of a user on every server.

use std::process::ExitCode;

use broker::{Revocation, RevocationOutcome};
use clap::Args;

use crate::{Console, Outcome, hidden::Hidden};

/// Close a user's sessions on every server: all, those of one authentication, or those that need a scope
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// The backend, as in redis://localhost
    url: Hidden,
    /// The user
    #[arg(long)]
    user: String,
    /// Only the sessions of this authentication: one key, token or sign-in
    #[arg(long, value_name = "ID", conflicts_with = "scopes")]
    auth_id: Option<String>,
    /// Only the sessions that require this scope; can be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
}

impl Revoke {
    pub(crate) async fn run(self, console: &mut Console) -> Outcome {
        let broker = broker::connect(&self.url).await?;
        let revocation = match (self.auth_id, self.scopes) {
            (Some(id), _) => Revocation::auth_id(&self.user, id),
            (None, scopes) if scopes.is_empty() => Revocation::user(&self.user),
            (None, scopes) => Revocation::scopes(&self.user, scopes),
        };
        let outcome = broker.revoke(revocation).await;
        broker.close().await;
        let text = match outcome? {
            RevocationOutcome::Logged => {
                "revoked and stored: servers that are disconnected now apply it later"
            }
            RevocationOutcome::Announced => {
                "revoked on every connected server; this backend keeps no log for the others"
            }
            _ => "revoked",
        };
        console.say(text).await?;
        Ok(ExitCode::SUCCESS)
    }
}
