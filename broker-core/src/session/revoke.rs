//! Taking back authentications through a session.

use super::Session;
use crate::{Result, Revocation, RevocationOutcome};

impl Session {
    /// Revokes an authentication on every server: the sessions that it hits end with
    /// [`CloseReason::AuthenticationRevoked`](crate::CloseReason::AuthenticationRevoked). Change your own records first, then call this. Follows Serverpod's
    /// `authenticationRevoked`.
    ///
    /// - On this server they are closed before the call does any I/O, and also if it then fails.
    /// - Everywhere else as soon as the news is there; a server that is cut off or down learns of it when it is back,
    ///   from the backend's log. What `Ok` means is said by the [outcome](RevocationOutcome).
    /// - A session whose check began before and that is opened after is closed too. A later sign-in is not affected.
    ///
    /// Twice, or for an unknown user, is no error. Any session may revoke for any user: permissions are the
    /// application's to decide. A dropped call has closed what it hits here; others may not know.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use std::time::Instant;
    /// use broker::{CloseReason, Identity, Revocation, RevocationOutcome, Revoked};
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let began = Instant::now(); // before ada's token is looked at
    /// let session = broker.session_for(Identity::new("ada", began)).await?;
    ///
    /// let outcome = broker.session().revoke_authentication(Revocation::user("ada")).await?;
    /// assert_eq!(outcome, RevocationOutcome::Logged);
    /// assert!(matches!(session.closed().await, CloseReason::AuthenticationRevoked(Revoked::User)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Any error but [`InvalidInput`](crate::ErrorKind::InvalidInput) and [`Closed`](crate::ErrorKind::Closed) means that other
    /// servers may not know: call again. [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) when the backend has not stored it within
    /// [`revoke_timeout`](crate::Options::revoke_timeout); [`Forbidden`](crate::ErrorKind::Forbidden) and
    /// [`Misconfigured`](crate::ErrorKind::Misconfigured) when an operator has to change something.
    pub async fn revoke_authentication(&self, revocation: Revocation) -> Result<RevocationOutcome> {
        self.check_open("revoke_authentication")?;
        self.broker.revoke(revocation).await
    }

    /// The same call under the name Serverpod's code uses.
    ///
    /// # Errors
    /// As [`revoke_authentication`](Self::revoke_authentication).
    pub async fn authentication_revoked(&self, revocation: Revocation) -> Result<RevocationOutcome> {
        self.revoke_authentication(revocation).await
    }
}
