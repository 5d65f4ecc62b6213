//! Looks: which protocol a server speaks, found out by a connection of its own. Only used when a driver was not
//! understood, to say what is there instead.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long the server may take to accept, to begin by itself, and to answer.
const PATIENCE: Duration = Duration::from_millis(300);
/// As much as is looked at of what a server sends: the `INFO` of a NATS server is a line of this length at most.
const LONGEST: usize = 4096;

/// Something that each of the known servers answers: a command of Redis and of NATS, and for RabbitMQ, which reads
/// eight bytes, a protocol that it refuses by naming its own.
const POKE: &[u8] = b"PING\r\n\r\n";

/// PostgreSQL answers nothing else: whether it would encrypt, by one letter.
const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

/// The first message of TLS 1.2, offering one cipher suite. A server answers it, if only by an alert.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \0\x00\x04\xc0\x2f\x00\x9c\x01\x00";

/// A protocol, as it shows in a server's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looks {
    Redis,
    /// And whether the server offers or demands TLS after its greeting.
    Nats {
        tls: bool,
    },
    RabbitMq,
    Postgres,
    /// Any of them, or another one, inside TLS.
    Tls,
    Http,
    Ssh,
}

impl Looks {
    /// What listens at an address; `None` if it takes no connection, or shows nothing that is known. Takes three seconds
    /// at most, and sends nothing secret.
    pub(crate) async fn at(address: SocketAddr) -> Option<Self> {
        if let Some(plain) = Self::of(&answer(address, POKE, true).await.ok()?) {
            return Some(plain);
        }
        if matches!(answer(address, SSL_REQUEST, false).await.ok()?.as_slice(), b"S" | b"N") {
            return Some(Self::Postgres);
        }
        Self::of(&answer(address, CLIENT_HELLO, false).await.ok()?)
    }

    /// The server's name, as errors show it.
    pub(crate) const fn product(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Nats { .. } => "NATS",
            Self::RabbitMq => "RabbitMQ",
            Self::Postgres => "PostgreSQL",
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::Ssh => "SSH",
        }
    }

    /// The beginning of a URL that leads to such a server.
    pub(crate) const fn scheme(self) -> &'static str {
        match self {
            Self::Redis => "redis://",
            Self::Nats { tls: false } => "nats://",
            Self::Nats { tls: true } => "tls://",
            Self::RabbitMq => "amqp://",
            Self::Postgres => "postgres://",
            Self::Tls => "a scheme with TLS",
            Self::Http | Self::Ssh => "another server",
        }
    }

    fn of(said: &[u8]) -> Option<Self> {
        let has = |part: &[u8]| said.windows(part.len()).any(|window| window == part);
        match said {
            // An alert, or a handshake, of SSL 3.0 to TLS 1.3.
            [0x15 | 0x16, 3, 0..=4, ..] => Some(Self::Tls),
            [b'A', b'M', b'Q', b'P', ..] => Some(Self::RabbitMq),
            _ if said.starts_with(b"INFO {") => {
                Some(Self::Nats { tls: has(b"\"tls_required\":true") || has(b"\"tls_available\":true") })
            }
            _ if said.starts_with(b"HTTP/") => Some(Self::Http),
            _ if said.starts_with(b"SSH-") => Some(Self::Ssh),
            _ if ["+PONG", "-NOAUTH", "-DENIED", "-LOADING", "-MASTERDOWN", "-ERR max number of clients"]
                .iter()
                .any(|start| said.starts_with(start.as_bytes())) =>
            {
                Some(Self::Redis)
            }
            _ => None,
        }
    }
}

/// What a server sends first, by itself if it `may_begin`, or in answer to `words`.
async fn answer(address: SocketAddr, words: &[u8], may_begin: bool) -> io::Result<Vec<u8>> {
    let mut socket = timeout(PATIENCE, TcpStream::connect(address)).await??;
    let mut said = Vec::new();
    if may_begin {
        read(&mut socket, &mut said).await;
    }
    if said.is_empty() && socket.write_all(words).await.is_ok() {
        read(&mut socket, &mut said).await;
    }
    Ok(said)
}

/// Reads until something is there and its line has ended, or nothing more comes in time.
async fn read(socket: &mut TcpStream, said: &mut Vec<u8>) {
    let reading = async {
        while said.len() < LONGEST && !said.contains(&b'\n') {
            if !matches!(socket.read_buf(said).await, Ok(1..)) {
                return;
            }
        }
    };
    let _late = timeout(PATIENCE, reading).await;
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Listens, and treats each connection in one way: a greeting, then answers to what begins in a certain way.
    async fn server(
        greeting: &'static [u8],
        answers: &'static [(&'static [u8], &'static [u8])],
    ) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = socket.write_all(greeting).await;
                    let mut asked = Vec::new();
                    let _ = socket.read_buf(&mut asked).await;
                    match answers.iter().find(|(start, _)| asked.starts_with(start)) {
                        Some((_, answer)) => _ = socket.write_all(answer).await,
                        // Hangs up.
                        None => return,
                    }
                    let _ = socket.read_buf(&mut asked).await;
                });
            }
        });
        address
    }

    /// A greeting, answers, and what that is.
    type Server = (&'static [u8], &'static [(&'static [u8], &'static [u8])], Option<Looks>);

    const SERVERS: &[Server] = &[
        (b"", &[(b"PING", b"+PONG\r\n")], Some(Looks::Redis)),
        (b"", &[(b"PING", b"-NOAUTH Authentication required.\r\n")], Some(Looks::Redis)),
        (b"-ERR max number of clients reached\r\n", &[], Some(Looks::Redis)),
        (b"INFO {\"version\":\"2\"}\r\n", &[], Some(Looks::Nats { tls: false })),
        (b"INFO {\"tls_required\":true}\r\n", &[], Some(Looks::Nats { tls: true })),
        (b"", &[(b"PING", b"AMQP\x00\x00\x09\x01")], Some(Looks::RabbitMq)),
        (b"", &[(b"\0\0\0\x08\x04\xd2", b"S")], Some(Looks::Postgres)),
        (b"", &[(b"\0\0\0\x08\x04\xd2", b"N")], Some(Looks::Postgres)),
        (b"", &[(b"\0\0\0\x08\x04\xd2", b"NO\r\n")], None),
        (b"", &[(b"PING", b"\x15\x03\x01\x00\x02\x02\x46")], Some(Looks::Tls)),
        (b"", &[(b"\x16\x03\x01", b"\x16\x03\x03\x00\x10")], Some(Looks::Tls)),
        (b"", &[(b"PING", b"HTTP/1.1 400 Bad Request\r\n")], Some(Looks::Http)),
        (b"SSH-2.0-OpenSSH_9.6\r\n", &[], Some(Looks::Ssh)),
        (b"220 mail.example.org ESMTP\r\n", &[], None),
        (b"", &[], None),
    ];

    #[tokio::test]
    async fn each_protocol_is_recognised_by_its_first_bytes() {
        for (greeting, answers, looks) in SERVERS {
            let address = server(greeting, answers).await;
            assert_eq!(Looks::at(address).await, *looks, "{greeting:?} {answers:?}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_not_recognised() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // It takes connections and is silent.
        assert_eq!(Looks::at(address).await, None);
        drop(listener);
        assert_eq!(Looks::at(address).await, None);
    }

    #[test]
    fn the_client_hello_is_as_long_as_it_says() {
        let [_, _, _, high, low, _, _, a, b, ..] = CLIENT_HELLO else { panic!() };
        assert_eq!(u16::from_be_bytes([*high, *low]) as usize, CLIENT_HELLO.len() - 5);
        assert_eq!(u16::from_be_bytes([*a, *b]) as usize, CLIENT_HELLO.len() - 9);
    }
}
