//! Questions and orders to a NATS server around the driver under test, and around its client.

use std::net::SocketAddr;

use broker_conformance::wait::eventually;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::servers::{
    LIMIT,
    nats::config::{CONTROL, NatsConfig, STRANGER},
};

/// One connection of a client, as the server sees it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its number.
    pub id: u64,
    /// What it is subscribed to.
    pub subjects: Vec<String>,
}

/// What a server tells about itself at one of its monitoring pages: `varz`.
///
/// # Errors
/// No answer in time, or none that can be read.
pub async fn ask(monitor: SocketAddr, page: &str) -> Result<Value, String> {
    let exchange = async {
        let mut socket = TcpStream::connect(monitor).await?;
        socket.write_all(format!("GET /{page} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = within(exchange).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("/{page}: {answer}"))?;
    serde_json::from_str(body).map_err(|error| format!("/{page}: {error}: {body}"))
}

/// The connections of clients, but for the tests' own.
///
/// # Errors
/// No answer in time, or none that can be read.
pub async fn connections(monitor: SocketAddr) -> Result<Vec<Connection>, String> {
    let page = ask(monitor, "connz?subs=1&auth=1&limit=1000000").await?;
    let all = page["connections"].as_array().ok_or("/connz has no connections")?;
    let own = |one: &&Value| [CONTROL, STRANGER].iter().any(|user| one["authorized_user"] == *user);
    let nodes = all.iter().filter(|one| !own(one)).map(|one| {
        let subjects = one["subscriptions_list"].as_array().into_iter().flatten();
        let subjects = subjects.filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Connection { id: one["cid"].as_u64().ok_or("a connection without a number")?, subjects })
    });
    nodes.collect()
}

/// Makes the server hang up on a client.
///
/// # Errors
/// No answer in time.
pub async fn kick(addr: SocketAddr, server_id: &str, client: u64) -> Result<(), String> {
    let order = json!({ "cid": client }).to_string();
    // An order that wants no answer is not obeyed.
    let subject = format!("$SYS.REQ.SERVER.{server_id}.KICK nobody");
    publish(addr, CONTROL, &subject, order.as_bytes()).await
}

/// Publishes bytes as another program would.
///
/// # Errors
/// No answer in time, or a refusal.
pub async fn publish_raw(addr: SocketAddr, subject: &str, payload: &[u8]) -> Result<(), String> {
    publish(addr, STRANGER, subject, payload).await
}

/// Asks JetStream something about the account of the nodes, and waits for the answer: `STREAM.NAMES`.
///
/// # Errors
/// No answer in time, none that can be read, or one that says that it failed.
pub async fn jetstream(addr: SocketAddr, what: &str, question: &Value) -> Result<Value, String> {
    let (connect, question) = (sign_in(STRANGER), question.to_string());
    let head =
        format!("CONNECT {connect}\r\nSUB answer 1\r\nPUB $JS.API.{what} answer {}\r\n", question.len());
    let order = [head.as_bytes(), question.as_bytes(), b"\r\n"].concat();
    let exchange = async {
        let mut socket = BufReader::new(TcpStream::connect(addr).await?);
        socket.write_all(&order).await?;
        let mut line = String::new();
        while !line.starts_with("MSG") && !line.starts_with("-ERR") {
            line.clear();
            if socket.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        // MSG answer 1 <length>
        let length = line.trim_end().rsplit(' ').next().and_then(|length| length.parse().ok());
        let mut answer = vec![0; length.unwrap_or_default()];
        socket.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let answer = within(exchange).await?;
    let shown = String::from_utf8_lossy(&answer);
    let answer: Value =
        serde_json::from_slice(&answer).map_err(|error| format!("{what}: {error}: {shown}"))?;
    if answer["error"].is_null() { Ok(answer) } else { Err(format!("{what}: {shown}")) }
}

/// Listens to everything that is published in the account of the nodes, for as long as the connection is kept.
///
/// # Errors
/// No answer in time.
pub async fn listen_to_everything(addr: SocketAddr) -> Result<TcpStream, String> {
    let order = format!("CONNECT {}\r\nSUB > 1\r\nPING\r\n", sign_in(STRANGER));
    let exchange = async {
        let mut socket = BufReader::new(TcpStream::connect(addr).await?);
        socket.write_all(order.as_bytes()).await?;
        let mut line = String::new();
        while !line.starts_with("PONG") {
            line.clear();
            if socket.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(socket.into_inner())
    };
    within(exchange).await
}

/// The streams of the account of the nodes.
///
/// # Errors
/// As [`jetstream`].
pub async fn streams(addr: SocketAddr) -> Result<Vec<String>, String> {
    let answer = jetstream(addr, "STREAM.NAMES", &json!({})).await?;
    let names = answer["streams"].as_array().into_iter().flatten();
    Ok(names.filter_map(Value::as_str).map(str::to_owned).collect())
}

fn sign_in(user: &str) -> Value {
    json!({ "verbose": false, "pedantic": false, "user": user, "pass": user })
}

async fn publish(addr: SocketAddr, user: &str, subject: &str, payload: &[u8]) -> Result<(), String> {
    let connect = sign_in(user);
    let head = format!("CONNECT {connect}\r\nPUB {subject} {}\r\n", payload.len());
    let order = [head.as_bytes(), payload, b"\r\nPING\r\n"].concat();
    let exchange = async {
        let mut socket = BufReader::new(TcpStream::connect(addr).await?);
        socket.write_all(&order).await?;
        let mut line = String::new();
        // What comes before the answer to the PING: what the server is, and its complaints.
        while !line.starts_with("PONG") && !line.starts_with("-ERR") {
            line.clear();
            if socket.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(line)
    };
    let answer = within(exchange).await?;
    if answer.starts_with("PONG") { Ok(()) } else { Err(format!("PUB {subject}: {answer}")) }
}

async fn within<T>(exchange: impl Future<Output = std::io::Result<T>> + Send) -> Result<T, String> {
    match timeout(LIMIT, exchange).await {
        Ok(answer) => answer.map_err(|error| format!("nats-server: {error}")),
        Err(_) => Err(format!("nats-server: no answer within {LIMIT:?}")),
    }
}

/// Waits until a server greets its clients; one that begins with TLS, until it takes connections. It answers questions over HTTP a moment earlier.
///
/// # Errors
/// It does not in time.
pub(crate) async fn greets(addr: SocketAddr, config: &NatsConfig) -> Result<(), String> {
    eventually("nats-server to let clients in", LIMIT, || async {
        let mut stream = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
        if config.begins_with_tls() {
            return Ok(());
        }
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).await.map_err(|error| error.to_string())?;
        if greeting == *b"INFO " { Ok(()) } else { Err(format!("{greeting:?}")) }
    })
    .await
}
