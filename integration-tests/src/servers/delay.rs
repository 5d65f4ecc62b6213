//! Delay: a relay on a loopback port that passes everything on a while later: a distance between two servers.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// How many pieces are on their way at most.
const UNDER_WAY: usize = 1024;

/// See the module. Dropping it closes its port and every connection.
#[derive(Debug)]
pub(crate) struct Delay {
    addr: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Delay {
    /// Relays to `upstream`, each direction `by` so much later.
    pub(crate) async fn start(upstream: SocketAddr, by: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (addr, mut accepting) = (listener.local_addr()?, JoinSet::new());
        accepting.spawn(async move {
            let mut relays = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while relays.try_join_next().is_some() {}
                relays.spawn(relay(client, upstream, by));
            }
        });
        Ok(Self { addr, _accepting: accepting })
    }

    /// Where clients connect.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

async fn relay(client: TcpStream, upstream: SocketAddr, by: Duration) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    // Fails only for a socket that is closed already.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = pass(from_client, to_server, by) => {}
        () = pass(from_server, to_client, by) => {}
    }
}

/// Passes on one direction, until one side ends it.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, by: Duration) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let reading = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if sender.send((Instant::now() + by, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = under_way.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
