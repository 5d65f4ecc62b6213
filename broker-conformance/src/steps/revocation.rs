//! Steps of cases about revocation: sign in, sign out, be refused.

use std::time::Instant;

use broker_core::{
    Broker, CloseReason, ErrorKind, Identity, Revocation, RevocationOutcome, Revoked, Session,
};

use crate::wait::within;

/// A session of a user whose check begins now.
pub async fn sign_in(node: &Broker, user: &str) -> Result<Session, String> {
    open(node, Identity::new(user, Instant::now())).await
}

/// A session of an identity.
pub async fn open(node: &Broker, identity: Identity) -> Result<Session, String> {
    node.session_for(identity).await.map_err(|error| error.to_string())
}

/// Revokes everything of a user, for everybody to know.
pub async fn sign_out(node: &Broker, user: &str) -> Result<(), String> {
    match node.revoke(Revocation::user(user)).await {
        Ok(RevocationOutcome::Logged) => Ok(()),
        other => Err(format!("expected a revocation that is logged, got {other:?}")),
    }
}

/// The session ends because everything of its user was revoked.
pub async fn signed_out(session: &Session) -> Result<(), String> {
    match within("the session to be revoked", session.closed()).await? {
        CloseReason::AuthenticationRevoked(Revoked::User) => Ok(()),
        other => Err(format!("expected a revoked session, it ended because {other}")),
    }
}

/// Opening a session is refused, because the authentication was revoked.
pub async fn refused(node: &Broker, identity: Identity) -> Result<(), String> {
    match node.session_for(identity).await {
        Err(error) if error.kind() == ErrorKind::Revoked => Ok(()),
        other => Err(format!("expected a session that is refused as revoked, got {other:?}")),
    }
}
