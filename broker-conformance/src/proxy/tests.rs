//! Tests of the proxy, against a server that echoes.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::Proxy;
use crate::wait::{LIMIT, eventually};

/// Long enough for loopback, when nothing is to come.
const SILENCE: Duration = Duration::from_millis(100);

struct Echo {
    addr: SocketAddr,
    /// What the server received, in one channel for all connections.
    received: tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>,
    /// One word for every connection that ended.
    ended: tokio::sync::mpsc::UnboundedReceiver<()>,
    _tasks: JoinSet<()>,
}

async fn echo() -> Echo {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (got, received) = tokio::sync::mpsc::unbounded_channel();
    let (over, ended) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let (got, over) = (got.clone(), over.clone());
            connections.spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(length @ 1..) = socket.read(&mut buffer).await {
                    let _ = got.send(buffer[..length].to_vec());
                    let _ = socket.write_all(&buffer[..length]).await;
                }
                let _ = over.send(());
            });
        }
    });
    Echo { addr, received, ended, _tasks: tasks }
}

async fn say(socket: &mut TcpStream, word: &str) -> io::Result<String> {
    socket.write_all(word.as_bytes()).await?;
    let mut answer = vec![0; word.len()];
    socket.read_exact(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn connect(proxy: &Proxy) -> TcpStream {
    let mut socket = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(say(&mut socket, "hello").await.unwrap(), "hello");
    socket
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

async fn silent<T>(future: impl Future<Output = T>) -> bool {
    tokio::time::timeout(SILENCE, future).await.is_err()
}

async fn connections_become(proxy: &Proxy, wanted: usize) {
    let probe = || async {
        let now = proxy.connections();
        if now == wanted { Ok(()) } else { Err(format!("{now} connections")) }
    };
    eventually(&format!("{wanted} connections"), LIMIT, probe).await.unwrap();
}

/// Waits for the end of a connection; true for a reset.
async fn ends(socket: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match within("the end", socket.read_to_end(&mut rest)).await {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            true
        }
    }
}

#[tokio::test]
async fn relays_and_counts() {
    let server = echo().await;
    let proxy = Proxy::start(server.addr).await.unwrap();
    let first = connect(&proxy).await;
    let second = connect(&proxy).await;
    assert_eq!(proxy.connections(), 2);
    drop(first);
    connections_become(&proxy, 1).await;
    drop(second);
    connections_become(&proxy, 0).await;
}

#[tokio::test]
async fn a_cut_resets_live_and_new_connections_until_healed() {
    let mut server = echo().await;
    let proxy = Proxy::start(server.addr).await.unwrap();
    let mut socket = connect(&proxy).await;
    proxy.cut();
    assert!(ends(&mut socket).await);
    within("the server to detect the close", server.ended.recv()).await.unwrap();
    connections_become(&proxy, 0).await;
    if let Ok(mut refused) = TcpStream::connect(proxy.addr()).await {
        assert!(ends(&mut refused).await);
    }
    proxy.heal();
    connect(&proxy).await;
}

#[tokio::test]
async fn a_cut_healed_at_once_still_cuts() {
    let server = echo().await;
    let proxy = Proxy::start(server.addr).await.unwrap();
    let mut socket = connect(&proxy).await;
    proxy.cut();
    proxy.heal();
    ends(&mut socket).await;
}

#[tokio::test]
async fn dropped_connections_close_and_new_ones_are_accepted() {
    let server = echo().await;
    let proxy = Proxy::start(server.addr).await.unwrap();
    let mut socket = connect(&proxy).await;
    proxy.drop_connections();
    assert!(!ends(&mut socket).await);
    connect(&proxy).await;
}

#[tokio::test]
async fn a_stall_silences_both_directions_for_good() {
    let mut server = echo().await;
    let proxy = Proxy::start(server.addr).await.unwrap();
    let mut old = connect(&proxy).await;
    server.received.recv().await.unwrap();
    proxy.stall();
    assert!(silent(say(&mut old, "lost")).await);
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(silent(say(&mut new, "lost")).await);
    assert_eq!(proxy.connections(), 2);
    // The server does not detect that the client closes, and gets nothing of what it said.
    drop(new);
    drop(old);
    connections_become(&proxy, 0).await;
    assert!(silent(server.ended.recv()).await);
    assert!(server.received.try_recv().is_err());

    let mut dead = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(silent(say(&mut dead, "lost")).await);
    proxy.heal();
    within("the server to detect the close", server.ended.recv()).await.unwrap();
    assert!(silent(say(&mut dead, "lost")).await);
    connect(&proxy).await;
}

#[tokio::test]
async fn a_stall_downstream_still_carries_upstream() {
    let mut server = echo().await;
    let proxy = Proxy::start(server.addr).await.unwrap();
    let mut socket = connect(&proxy).await;
    server.received.recv().await.unwrap();
    proxy.stall_downstream();
    assert!(silent(say(&mut socket, "up")).await);
    assert_eq!(within("the word", server.received.recv()).await.unwrap(), b"up");
    proxy.heal();
    assert!(silent(say(&mut socket, "again")).await);
    connect(&proxy).await;
}

#[tokio::test]
async fn a_stalled_connection_can_be_cut() {
    let server = echo().await;
    let proxy = Proxy::start(server.addr).await.unwrap();
    let mut socket = connect(&proxy).await;
    proxy.stall();
    proxy.cut();
    assert!(ends(&mut socket).await);
}

#[tokio::test]
async fn new_connections_go_to_the_new_upstream() {
    let (mut first, mut second) = (echo().await, echo().await);
    let proxy = Proxy::start(first.addr).await.unwrap();
    let mut old = connect(&proxy).await;
    proxy.set_upstream(second.addr);
    connect(&proxy).await;
    assert_eq!(second.received.recv().await.unwrap(), b"hello");
    say(&mut old, "still here").await.unwrap();
    first.received.recv().await.unwrap();
    assert_eq!(first.received.recv().await.unwrap(), b"still here");
}

#[tokio::test]
async fn a_missing_server_closes_the_connection() {
    let proxy = Proxy::start(echo().await.addr).await.unwrap();
    let mut socket = TcpStream::connect(proxy.addr()).await.unwrap();
    ends(&mut socket).await;
}

#[tokio::test]
async fn dropping_the_proxy_ends_everything() {
    let mut server = echo().await;
    let proxy = Proxy::start(server.addr).await.unwrap();
    let mut socket = connect(&proxy).await;
    let addr = proxy.addr();
    drop(proxy);
    ends(&mut socket).await;
    within("the server to detect the close", server.ended.recv()).await.unwrap();
    let probe = || async { TcpStream::connect(addr).await.map_or(Ok(()), |_| Err("it accepts".to_owned())) };
    eventually("the port to close", LIMIT, probe).await.unwrap();
}

#[tokio::test]
async fn a_client_that_sends_nothing_more_receives_all_of_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    let (mut server, _) = within("the connection", listener.accept()).await.unwrap();
    client.write_all(b"bye").await.unwrap();
    client.shutdown().await.unwrap();
    let mut received = String::new();
    within("the end of the client", server.read_to_string(&mut received)).await.unwrap();
    connections_become(&proxy, 0).await;
    server.write_all(b"farewell").await.unwrap();
    drop(server);
    let mut answer = String::new();
    within("the end of the server", client.read_to_string(&mut answer)).await.unwrap();
    assert_eq!((&*received, &*answer), ("bye", "farewell"));
}
