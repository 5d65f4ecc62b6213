//! Page: speaks with one browser. Everything that comes from it is hostile until it is read; everything that goes to it
//! has a limit, and a browser that does not read holds up nobody else.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use broker::{CloseReason, ErrorKind, Identity, MessageStream, Revocation, Session, StreamError};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{CHANGES, Change, Cluster},
    limits::Limits,
    status::{Present, Status},
};

/// After so much nonsense we hang up.
const NONSENSE: u32 = 20;
/// The longest name of a person, in characters.
const NAME: usize = 24;

/// What a browser asks for.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
enum Wish {
    /// `since` is from an earlier sign-in of this page: milliseconds, as told then.
    SignIn {
        name: String,
        since: Option<u64>,
    },
    Paint {
        x: u8,
        y: u8,
        colour: u8,
    },
    SignOutEverywhere,
}

/// What a browser is told.
#[derive(Debug, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
enum Word<'a> {
    Board { pixels: String },
    Pixel { x: u8, y: u8, colour: u8 },
    Status { status: &'a Status },
    SignedIn { name: &'a str, since: u64 },
    SignedOut { why: &'a str },
    Refused { why: &'a str },
}

/// Why we stop.
struct Gone;

/// A budget of strokes, that fills up again.
struct Budget {
    left: f64,
    counted: Instant,
}

impl Budget {
    fn new(limits: &Limits, now: Instant) -> Self {
        Self { left: limits.strokes_at_once, counted: now }
    }

    fn take(&mut self, limits: &Limits, now: Instant) -> bool {
        let earned = now.duration_since(self.counted).as_secs_f64() * limits.strokes_a_second;
        self.left = (self.left + earned).min(limits.strokes_at_once);
        self.counted = now;
        let enough = self.left >= 1.0;
        self.left -= f64::from(u8::from(enough));
        enough
    }
}

struct Page {
    socket: WebSocket,
    cluster: Arc<Cluster>,
    session: Session,
    changes: MessageStream<Change>,
    name: Option<String>,
    limits: Limits,
    budget: Budget,
    nonsense: u32,
}

/// Serves one browser until it leaves, or the server stops.
pub(crate) async fn attend(
    socket: WebSocket,
    cluster: Arc<Cluster>,
    limits: Limits,
    stop: CancellationToken,
) {
    let _present = Present::new(cluster.status.clone());
    let session = cluster.broker.session();
    let Ok(changes) = session.create_stream(CHANGES).await else { return };
    let budget = Budget::new(&limits, Instant::now());
    let mut page = Page { socket, cluster, session, changes, name: None, limits, budget, nonsense: 0 };
    let Err(Gone) = page.live(&stop).await;
    let bye = CloseFrame { code: 1001, reason: "goodbye".into() };
    let _ = timeout(limits.slow, page.socket.send(Message::Close(Some(bye)))).await;
}

impl Page {
    async fn live(&mut self, stop: &CancellationToken) -> Result<std::convert::Infallible, Gone> {
        let mut status = self.cluster.status.subscribe();
        status.mark_changed();
        self.show_everything().await?;
        let (mut asking, mut received) = (interval(self.limits.silent / 4), Instant::now());
        let mut pause = interval(self.limits.status_pause);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Err(Gone),
                message = self.socket.recv() => {
                    received = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => self.wish(text.as_str()).await?,
                        Some(Ok(Message::Binary(_))) => self.refuse_nonsense("text, not bytes").await?,
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
                    }
                }
                change = self.changes.next() => match change {
                    Some(Ok(change)) => match *change {
                        Change::Pixel { x, y, colour } => self.send_word(&Word::Pixel { x, y, colour }).await?,
                        Change::Everything => self.show_everything().await?,
                    },
                    // This browser was too slow for single strokes.
                    Some(Err(StreamError::Gap(_))) => self.show_everything().await?,
                    Some(Err(_)) => {}
                    None => self.session_ended().await?,
                },
                changed = async { pause.tick().await; status.changed().await } => {
                    changed.map_err(|_| Gone)?;
                    let status = status.borrow_and_update().clone();
                    self.send_word(&Word::Status { status: &status }).await?;
                }
                _ = asking.tick() => {
                    if received.elapsed() > self.limits.silent {
                        return Err(Gone);
                    }
                    self.send(Message::Ping(Vec::new().into())).await?;
                }
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        match timeout(self.limits.slow, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }

    async fn send_word(&mut self, word: &Word<'_>) -> Result<(), Gone> {
        let text = serde_json::to_string(word).map_err(|_| Gone)?;
        self.send(Message::Text(text.into())).await
    }

    async fn show_everything(&mut self) -> Result<(), Gone> {
        let pixels = self.cluster.colours();
        self.send_word(&Word::Board { pixels }).await
    }

    async fn refuse(&mut self, why: &str) -> Result<(), Gone> {
        self.send_word(&Word::Refused { why }).await
    }

    async fn refuse_nonsense(&mut self, why: &str) -> Result<(), Gone> {
        self.nonsense += 1;
        if self.nonsense > NONSENSE {
            return Err(Gone);
        }
        self.refuse(why).await
    }

    async fn wish(&mut self, text: &str) -> Result<(), Gone> {
        match serde_json::from_str(text) {
            Ok(Wish::SignIn { name, since }) => self.sign_in(&name, since).await,
            Ok(Wish::Paint { x, y, colour }) => self.paint(x, y, colour).await,
            Ok(Wish::SignOutEverywhere) => self.sign_out_everywhere().await,
            Err(error) => self.refuse_nonsense(&format!("not understood: {error}")).await,
        }
    }

    async fn paint(&mut self, x: u8, y: u8, colour: u8) -> Result<(), Gone> {
        if self.name.is_none() {
            return self.refuse("sign in to paint").await;
        }
        if !self.budget.take(&self.limits, Instant::now()) {
            return self.refuse_nonsense("that is too fast; the rest was not painted").await;
        }
        let painted = self.cluster.paint(&self.session, x, y, colour).await;
        match painted {
            Ok(true) => Ok(()),
            Ok(false) => self.refuse_nonsense("no such pixel or colour").await,
            // The session has just ended, which its stream is about to say.
            Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
            Err(error) => self.refuse(&format!("only this server has it: {}", error.public_message())).await,
        }
    }

    /// Names are believed: this is a demonstration. Elsewhere `since` would stand in a signed token.
    async fn sign_in(&mut self, name: &str, since: Option<u64>) -> Result<(), Gone> {
        let name = name.trim();
        if name.is_empty() || name.chars().count() > NAME || name.chars().any(char::is_control) {
            return self.refuse_nonsense("a name has 1 to 24 characters").await;
        }
        let now = SystemTime::now();
        let then = since.and_then(|since| UNIX_EPOCH.checked_add(Duration::from_millis(since)));
        let identity = match then.filter(|then| *then <= now) {
            Some(then) => Identity::new(name, then),
            None => Identity::new(name, Instant::now()),
        };
        let since =
            then.unwrap_or(now).duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        match self.cluster.broker.session_for(identity).await {
            Ok(session) => {
                self.enter(session).await?;
                self.name = Some(name.to_owned());
                self.send_word(&Word::SignedIn { name, since }).await
            }
            Err(error) if error.kind() == ErrorKind::Revoked => {
                self.send_word(&Word::SignedOut {
                    why: "You were signed out everywhere while you were away.",
                })
                .await
            }
            Err(error) => self.refuse(&format!("cannot sign in now: {}", error.public_message())).await,
        }
    }

    async fn sign_out_everywhere(&mut self) -> Result<(), Gone> {
        let Some(name) = self.name.clone() else { return self.refuse("you are not signed in").await };
        match self.cluster.broker.revoke(Revocation::user(name)).await {
            // Our own session ends by it, like all the others.
            Ok(_) => Ok(()),
            Err(error) => self.refuse(error.public_message()).await,
        }
    }

    /// The session is another one from now on; what happened between is in the board.
    async fn enter(&mut self, session: Session) -> Result<(), Gone> {
        self.changes = session.create_stream(CHANGES).await.map_err(|_| Gone)?;
        self.session = session;
        self.show_everything().await
    }

    async fn session_ended(&mut self) -> Result<(), Gone> {
        let why = match self.changes.close_reason() {
            Some(CloseReason::AuthenticationRevoked(_)) => "You were signed out everywhere.",
            Some(CloseReason::AuthenticationUncertain(_)) => {
                "This server cannot tell whether you are still signed in: sign in again."
            }
            _ => return Err(Gone),
        };
        self.name = None;
        let anonymous = self.cluster.broker.session();
        self.enter(anonymous).await?;
        self.send_word(&Word::SignedOut { why }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_strokes_is_cut_to_its_rate() {
        let (began, limits) = (Instant::now(), Limits::default());
        let mut budget = Budget::new(&limits, began);
        let taken = (0..1000).filter(|_| budget.take(&limits, began)).count();
        assert_eq!(taken as f64, limits.strokes_at_once);
        let later = began + Duration::from_secs(1);
        let taken = (0..1000).filter(|_| budget.take(&limits, later)).count();
        assert_eq!(taken as f64, limits.strokes_a_second);
    }

    #[test]
    fn only_known_requests_are_accepted() {
        let understood = |text: &str| serde_json::from_str::<Wish>(text).is_ok();
        assert!(understood(r#"{"do":"paint","x":1,"y":2,"colour":3}"#));
        assert!(understood(r#"{"do":"sign-in","name":"ada","since":null}"#));
        assert!(understood(r#"{"do":"sign-out-everywhere"}"#));
        for text in [
            "",
            "[]",
            r#"{"do":"paint","x":-1,"y":2,"colour":3}"#,
            r#"{"do":"paint","x":1}"#,
            r#"{"do":"x"}"#,
        ] {
            assert!(!understood(text), "{text}");
        }
    }
}
