//! A server of the board in this process, and what a test asks it over HTTP.

use std::{net::SocketAddr, time::Duration};

use broker::Options;
use pixorama::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::page::Page;

/// How long anything that is waited for may take: for what hangs, not for a machine that is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A way to a server that can be cut: what has come over it breaks off, and what comes later passes.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    cut: watch::Sender<()>,
    taking: JoinHandle<()>,
}

impl Line {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = watch::Sender::new(());
        let cuts = cut.clone();
        let taking = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cut = cuts.subscribe();
                let mut far = TcpStream::connect(server).await.unwrap();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = cut.changed() => {}
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Self { address, cut, taking }
    }

    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.taking.abort();
    }
}

/// One server. Dropping it leaves it to the runtime.
pub(crate) struct Pixorama {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Pixorama {
    pub(crate) async fn start(url: &str) -> Self {
        Self::start_with(url, Options::default(), Limits::default()).await
    }

    pub(crate) async fn start_with(url: &str, options: Options, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let broker = broker::open(url, options).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(pixorama::serve(listener, broker, limits, stopped));
        Self { address, stop: Some(stop), serving }
    }

    /// Stops it, and waits until it has.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        timeout(LIMIT, self.serving).await.expect("it ends").unwrap().unwrap();
    }

    /// A page that shows the board and the line under it.
    pub(crate) async fn page(&self) -> Page {
        Page::open(self.socket().await)
    }

    /// A connection that nobody reads.
    pub(crate) async fn socket(&self) -> Socket {
        connect_async(format!("ws://{}/v1/websocket", self.address)).await.unwrap().0
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.request(&format!("GET {path} HTTP/1.1\r\n"), "").await
    }

    /// A token.
    pub(crate) async fn sign_in(&self, name: &str) -> String {
        let (status, text) = self.post_name(name).await;
        assert_eq!(status, 200, "{text}");
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    pub(crate) async fn post_name(&self, name: &str) -> (u16, String) {
        self.request("POST /sign-in HTTP/1.1\r\n", name).await
    }

    pub(crate) async fn sign_out_everywhere(&self, token: &str) -> u16 {
        let head = format!("POST /sign-out-everywhere HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
        self.request(&head, "").await.0
    }

    /// The status, and the whole answer.
    async fn request(&self, head: &str, body: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let (host, length) = (self.address, body.len());
        let rest = format!("Host: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        socket.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
        let mut text = String::new();
        timeout(LIMIT, socket.read_to_string(&mut text)).await.unwrap().unwrap();
        (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
    }
}
