//! ErrorContext: the server at the other end, as errors name it.

use std::{fmt, io, net::SocketAddr, pin::pin, time::Duration};

use tokio::time::timeout;

use super::looks::Looks;
use crate::{
    Error,
    ErrorKind::{self, Forbidden, Misconfigured, Protocol, Unavailable},
    Result,
};

/// How long a server may be silent before somebody looks whether it is of another kind. It may take longer to answer.
const SILENCE: Duration = Duration::from_secs(1);
/// How the error begins that TLS ended with.
const UNTRUSTED: &str = "no trusted TLS (see the keys `ca`, `cert`) with";

/// The server at the other end: what it should be, where it is, and as whom we go there. Every error it makes names
/// the place; none holds a secret, as long as what it is given has none.
#[derive(Clone, Debug)]
pub struct ErrorContext {
    product: &'static str,
    place: String,
    who: String,
    hang_up: &'static str,
}

/// When a connection becomes an encrypted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encryption {
    /// Never, or if the server asks for it after its greeting.
    None,
    /// After the server's greeting, which is plain text.
    AfterGreeting,
    /// With the first byte.
    First,
}

impl ErrorContext {
    /// A `product` (`Redis`) at a place (`127.0.0.1:6379`), for `who` (`the user "ada"`).
    pub fn new(product: &'static str, place: impl fmt::Display, who: impl Into<String>) -> Self {
        Self { product, place: place.to_string(), who: who.into(), hang_up: "see its log" }
    }

    /// The same server, with what to look at when it ends a connection that is being opened, without a word:
    /// `see its log`.
    #[must_use]
    pub fn hanging_up(mut self, remedy: &'static str) -> Self {
        self.hang_up = remedy;
        self
    }

    /// The same server, reached at one of its places.
    #[must_use]
    pub fn at(&self, place: impl fmt::Display) -> Self {
        Self { place: place.to_string(), ..self.clone() }
    }

    /// Where it is: host and port, or whatever a connection was made to.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// As whom we go there.
    #[must_use]
    pub fn who(&self) -> &str {
        &self.who
    }

    /// An error about the server. `why` goes on after the place: `is full; see its limits`. One of the kind
    /// [`Forbidden`] also names the user that the server refused; `why` then begins a sentence of its own: `wrong password`.
    pub fn error(&self, kind: ErrorKind, why: impl fmt::Display) -> Error {
        let Self { place, who, .. } = self;
        let refused = if kind == Forbidden { format!(" refused {who}:") } else { String::new() };
        Error::new(kind, format!("{place}{refused} {why}"))
    }

    /// The connection ended, by whomever: [`Unavailable`].
    #[must_use]
    pub fn disconnected(&self) -> Error {
        Error::new(Unavailable, format!("the connection to {} was closed", self.place))
    }

    /// What answers there is not this kind of server: [`Protocol`].
    #[must_use]
    pub fn not_this_protocol(&self) -> Error {
        let why = format!("does not answer like a {} server; check host, port and scheme", self.product);
        self.error(Protocol, why)
    }

    /// No server was reached: [`Unavailable`].
    pub fn unreachable(&self, cause: impl fmt::Display) -> Error {
        Error::new(Unavailable, format!("no connection to {}: {cause}", self.place))
    }

    /// The way to the server failed. [`disconnected`](Self::disconnected) when the other side hung up; [`Misconfigured`] when TLS
    /// does not trust it, or finds that it does not speak TLS; [`Forbidden`] when this system forbids to open a
    /// connection; [`unreachable`](Self::unreachable) for anything else.
    #[must_use]
    pub fn io(&self, error: &io::Error) -> Error {
        use io::ErrorKind as Io;
        let (kind, what) = match error.kind() {
            Io::BrokenPipe | Io::ConnectionAborted | Io::ConnectionReset | Io::UnexpectedEof => {
                return self.disconnected();
            }
            // This is how TLS says that it does not trust, or understand, what it reads.
            Io::InvalidData => (Misconfigured, UNTRUSTED),
            Io::PermissionDenied => (Forbidden, "may not open"),
            _ => return self.unreachable(error),
        };
        Error::new(kind, format!("{what} {}: {error}", self.place))
    }

    /// Runs an `attempt` to open a connection to an address of this server, up to its first answer.
    ///
    /// When it fails without a reason ([`disconnected`](Self::disconnected), [`not_this_protocol`](Self::not_this_protocol), TLS that went wrong), or when
    /// the server has been silent for a second, a connection of our own finds out what is there. Cancel safe if the
    /// attempt is.
    ///
    /// # Errors
    /// Those of the attempt. [`Protocol`] when there is another kind of server, [`Misconfigured`] when it is the right
    /// one and only one side speaks TLS; both name the scheme that would fit. [`Unavailable`] when it hangs up. The
    /// servers that are recognised are those of this repository's backends, and web and SSH servers; a `product` need
    /// not be among them.
    pub async fn recognise<T>(
        &self,
        address: SocketAddr,
        encryption: Encryption,
        attempt: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let mut attempt = pin!(attempt);
        let outcome = match timeout(SILENCE, &mut attempt).await {
            Ok(outcome) => outcome,
            Err(_) => tokio::select! {
                outcome = &mut attempt => outcome,
                // Without a reason it may still answer.
                Some(reason) = self.look(address, encryption) => return Err(reason),
            },
        };
        match outcome {
            Err(error) if self.is_unexplained(&error) => {
                Err(self.look(address, encryption).await.unwrap_or_else(|| self.explained(error)))
            }
            outcome => outcome,
        }
    }

    fn is_unexplained(&self, error: &Error) -> bool {
        let text = error.message();
        error.kind() == Protocol || text == self.disconnected().message() || text.starts_with(UNTRUSTED)
    }

    /// What is known of a failure to open a connection when the server looks as it should.
    fn explained(&self, error: Error) -> Error {
        if error.message() != self.disconnected().message() {
            return error;
        }
        let why = format!("closed the connection while it was being opened; {}", self.hang_up);
        self.error(Unavailable, why).with_source(error)
    }

    /// Why a connection to this address cannot be opened, if the server there looks like another one.
    async fn look(&self, address: SocketAddr, encryption: Encryption) -> Option<Error> {
        let looks = Looks::at(address).await?;
        let (product, plain, secure) = match self.product {
            "Redis" => ("Redis", "redis://", "rediss://"),
            "Redis Sentinel" => ("Redis", "redis+sentinel://", "rediss+sentinel://"),
            "Redis Cluster" => ("Redis", "redis+cluster://", "rediss+cluster://"),
            "NATS" => ("NATS", "nats://", "tls:// and the key `tls_first=true`"),
            "RabbitMQ" => ("RabbitMQ", "amqp://", "amqps://"),
            "PostgreSQL" => ("PostgreSQL", "postgres://", "a port that begins without"),
            other => (other, "the scheme without TLS", "the scheme with TLS, if there is one"),
        };
        let (kind, why) = match (looks, encryption) {
            (Looks::Tls, Encryption::First) => return None,
            (Looks::Tls, _) => (Misconfigured, format!("speaks TLS from the first byte; use {secure}")),
            (Looks::Http, _) => (Protocol, "looks like a web server; check host and port".to_owned()),
            (Looks::Ssh, _) => (Protocol, "looks like an SSH server; check host and port".to_owned()),
            (Looks::Nats { tls: true }, Encryption::First) if product == "NATS" => {
                (Misconfigured, "does not begin with TLS; leave out the key `tls_first`".to_owned())
            }
            (Looks::Nats { tls: true }, _) if product == "NATS" => return None,
            (looks, Encryption::None) if looks.product() == product => return None,
            (looks, _) if looks.product() == product => {
                (Misconfigured, format!("speaks no TLS at this port; use {plain}, or its port for TLS"))
            }
            (looks, _) => {
                let (looks, scheme) = (looks.product(), looks.scheme());
                (
                    Protocol,
                    format!("looks like a {looks} server, not like {product}; use {scheme}, or another port"),
                )
            }
        };
        Some(self.error(kind, why))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    #[test]
    fn every_error_names_the_place_and_a_refusal_the_user() {
        let peer = ErrorContext::new("Redis", "127.0.0.1:6379", "the user \"ada\"");
        let refused = peer.error(Forbidden, "wrong password");
        assert_eq!(refused.message(), "127.0.0.1:6379 refused the user \"ada\": wrong password");
        assert_eq!(peer.error(Unavailable, "is full").message(), "127.0.0.1:6379 is full");
        assert!(peer.not_this_protocol().message().contains("a Redis server"));
        for error in [peer.disconnected(), peer.not_this_protocol(), peer.unreachable("no route")] {
            assert!(error.message().contains("127.0.0.1:6379"), "{error}");
        }
    }

    /// A server that greets in some way, and what it is taken for.
    async fn taken_for(product: &'static str, encryption: Encryption, greeting: &'static str) -> Error {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                socket.write_all(greeting.as_bytes()).await.unwrap();
                open.push(socket);
            }
        });
        let peer = ErrorContext::new(product, address, "nobody").hanging_up("see `max_something`");
        let failed = async { Err::<(), _>(peer.disconnected()) };
        let error = peer.recognise(address, encryption, failed).await.unwrap_err();
        // Whoever waits in silence is told the same; whoever has an answer gets that.
        if error.kind() != Unavailable {
            let silent = peer.recognise(address, encryption, std::future::pending::<Result<()>>());
            assert_eq!(silent.await.unwrap_err().message(), error.message());
        }
        let refused = async { Err::<(), _>(peer.error(Forbidden, "no")) };
        assert_eq!(peer.recognise(address, encryption, refused).await.unwrap_err().kind(), Forbidden);
        assert_eq!(peer.recognise(address, encryption, async { Ok(7) }).await.unwrap(), 7);
        serving.abort();
        assert!(error.message().contains(&address.to_string()), "{error}");
        error
    }

    #[tokio::test]
    async fn another_server_is_named_with_the_scheme_that_fits() {
        use Encryption::{AfterGreeting, First, None};
        let (nats, secure_nats) = ("INFO {}\r\n", "INFO {\"tls_required\":true}\r\n");
        let (redis, rabbit) = ("+PONG\r\n", "AMQP\0\0\u{9}\u{1}");
        let all = [
            ("Redis", None, nats, Protocol, "looks like a NATS server, not like Redis; use nats://"),
            ("Redis", None, rabbit, Protocol, "looks like a RabbitMQ server, not like Redis; use amqp://"),
            ("NATS", None, redis, Protocol, "looks like a Redis server, not like NATS; use redis://"),
            ("NATS", None, rabbit, Protocol, "use amqp://"),
            ("RabbitMQ", None, redis, Protocol, "not like RabbitMQ; use redis://"),
            ("RabbitMQ", First, secure_nats, Protocol, "use tls://"),
            ("Redis", First, redis, Misconfigured, "speaks no TLS at this port; use redis://"),
            ("NATS", AfterGreeting, nats, Misconfigured, "use nats://"),
            ("NATS", First, secure_nats, Misconfigured, "leave out the key `tls_first`"),
            ("NATS", AfterGreeting, secure_nats, Unavailable, "see `max_something`"),
            ("Redis", None, "\u{15}\u{3}\u{1}\0\u{2}", Misconfigured, "use rediss://"),
            ("NATS", None, "\u{15}\u{3}\u{1}\0\u{2}", Misconfigured, "`tls_first=true`"),
            ("RabbitMQ", First, "\u{15}\u{3}\u{1}\0\u{2}", Unavailable, "see `max_something`"),
            ("RabbitMQ", None, "HTTP/1.1 400 Bad Request\r\n", Protocol, "a web server"),
            ("Redis", None, "SSH-2.0-OpenSSH\r\n", Protocol, "an SSH server"),
            ("Redis", None, redis, Unavailable, "while it was being opened"),
            ("Acme", None, redis, Protocol, "looks like a Redis server, not like Acme; use redis://"),
            ("Acme", None, rabbit, Protocol, "looks like a RabbitMQ server, not like Acme; use amqp://"),
            ("Acme", None, "\u{15}\u{3}\u{1}\0\u{2}", Misconfigured, "use the scheme with TLS"),
            ("Acme", None, "HELLO\r\n", Unavailable, "see `max_something`"),
        ];
        join_all(all.map(async |(product, encryption, greeting, kind, part)| {
            let error = taken_for(product, encryption, greeting).await;
            assert_eq!(error.kind(), kind, "{product} {encryption:?} {greeting:?}: {error}");
            assert!(error.message().contains(part), "{error}");
        }))
        .await;
    }

    #[test]
    fn io_errors_have_their_kinds() {
        let peer = ErrorContext::new("Redis", "127.0.0.1:6379", "nobody");
        for (io, kind) in [
            (io::ErrorKind::ConnectionRefused, Unavailable),
            (io::ErrorKind::ConnectionAborted, Unavailable),
            (io::ErrorKind::ConnectionReset, Unavailable),
            (io::ErrorKind::NotFound, Unavailable),
            (io::ErrorKind::TimedOut, Unavailable),
            (io::ErrorKind::PermissionDenied, Forbidden),
            (io::ErrorKind::InvalidData, Misconfigured),
        ] {
            let error = peer.io(&io.into());
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains("127.0.0.1:6379"), "{error}");
        }
    }
}
