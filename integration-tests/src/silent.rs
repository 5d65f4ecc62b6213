//! Silent: addresses of this machine that do not answer.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

/// So many connections fill any backlog.
const MOST: usize = 64;
/// A connection within this machine that is not there by then is not coming.
const AT_ONCE: Duration = Duration::from_millis(300);

/// An address that does not answer, for as long as this lives.
#[derive(Debug)]
pub struct Silent {
    addr: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Silent {
    /// Takes connections, and says nothing.
    ///
    /// # Errors
    /// No port could be had.
    pub async fn after_accepting() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Ok(Self { addr: listener.local_addr()?, _listener: listener, _waiting: Vec::new() })
    }

    /// Swallows what would open a connection, as a host that is down does: its backlog is full.
    ///
    /// # Errors
    /// No port could be had, or it takes more connections than it should.
    pub async fn from_the_start(ip: IpAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((ip, 0).into())?;
        let listener = socket.listen(1)?;
        let addr = listener.local_addr()?;
        let mut waiting = Vec::new();
        while let Ok(connected) = timeout(AT_ONCE, TcpStream::connect(addr)).await {
            waiting.push(connected?);
            if waiting.len() > MOST {
                return Err(io::Error::other("a full backlog takes connections here"));
            }
        }
        Ok(Self { addr, _listener: listener, _waiting: waiting })
    }

    /// Where it is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}
