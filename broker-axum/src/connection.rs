//! Connections: what a server has accepted, counted until the last one is gone, also after an upgrade; each has a
//! deadline for what it sends, and all of them can be broken off.

use std::{
    future::Future,
    io::{self, ErrorKind, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// The halves of a connection.
const READS: usize = 0;
const WRITES: usize = 1;

/// All connections of a server.
#[derive(Clone)]
pub(crate) struct Connections {
    open: TaskTracker,
    broken_off: CancellationToken,
    send_timeout: Duration,
}

impl Connections {
    pub(crate) fn new(send_timeout: Duration) -> Self {
        Self { open: TaskTracker::new(), broken_off: CancellationToken::new(), send_timeout }
    }

    /// Waits until none is left.
    pub(crate) async fn gone(&self) {
        self.open.close();
        self.open.wait().await;
    }

    /// From now on each of them fails. Their tasks end by that.
    pub(crate) fn break_off(&self) {
        self.broken_off.cancel();
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }
}

/// A listener whose connections are counted.
pub(crate) struct Counted<L> {
    pub(crate) listener: L,
    pub(crate) connections: Connections,
}

impl<L: Listener> Listener for Counted<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, address) = self.listener.accept().await;
        (Connection::new(io, &self.connections), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// One connection. A WebSocket keeps it beyond the request.
pub(crate) struct Connection<I> {
    io: I,
    send_timeout: Duration,
    /// While it waits for the client to read.
    late: Option<Pin<Box<Sleep>>>,
    /// One for each half: a future wakes the last task that has polled it, and the halves may be in two.
    broken_off: [Pin<Box<WaitForCancellationFutureOwned>>; 2],
    _open: TaskTrackerToken,
}

impl<I> Connection<I> {
    fn new(io: I, connections: &Connections) -> Self {
        Self {
            io,
            send_timeout: connections.send_timeout,
            late: None,
            broken_off: [(); 2].map(|()| Box::pin(connections.broken_off.clone().cancelled_owned())),
            _open: connections.open.token(),
        }
    }

    /// Fails once the server has broken off its connections.
    fn check<T>(
        &mut self,
        half: usize,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending if self.broken_off[half].as_mut().poll(cx).is_ready() => {
                Poll::Ready(Err(io::Error::new(ErrorKind::ConnectionAborted, "the server has ended")))
            }
            polled => polled,
        }
    }

    /// The same for what is sent: fails if the client takes none of it for too long.
    fn check_sent<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.late = None;
            return polled;
        }
        let send_timeout = self.send_timeout;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(send_timeout)));
        if late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client does not read")));
        }
        self.check(WRITES, polled, cx)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Connection<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = pin!(&mut self.io).poll_read(cx, buffer);
        self.check(READS, polled, cx)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Connection<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = pin!(&mut self.io).poll_write(cx, bytes);
        self.check_sent(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = pin!(&mut self.io).poll_write_vectored(cx, bytes);
        self.check_sent(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = pin!(&mut self.io).poll_flush(cx);
        // Nothing to flush is no sign that the client reads: only a write ends the wait.
        if polled.is_ready() { polled } else { self.check_sent(polled, cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = pin!(&mut self.io).poll_shutdown(cx);
        self.check_sent(polled, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::{Instant, timeout},
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(7);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_late_and_one_that_takes_a_little_is_not() {
        let connections = Connections::new(LIMIT);
        let (io, mut client) = duplex(8);
        let mut connection = Connection::new(io, &connections);
        let reading = tokio::spawn(async move {
            let mut taken = [0; 8];
            for _ in 0..5 {
                tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
                client.read_exact(&mut taken).await.unwrap();
            }
            client
        });
        connection.write_all(&[1; 48]).await.unwrap();
        let (client, began) = (reading.await.unwrap(), Instant::now());
        let late = timeout(LIMIT * 2, connection.write_all(&[1; 8])).await;
        let error = late.expect("it is closed").unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (ErrorKind::TimedOut, LIMIT));
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_not_late_until_all_are_broken_off() {
        let connections = Connections::new(LIMIT);
        let (io, client) = duplex(8);
        let mut connection = Connection::new(io, &connections);
        assert_eq!(connections.count(), 1);
        let reading = tokio::spawn(async move { connection.read_u8().await.unwrap_err().kind() });
        tokio::time::sleep(LIMIT * 3).await;
        assert!(!reading.is_finished());
        connections.break_off();
        let ended = timeout(LIMIT, reading).await.expect("it is broken off");
        assert_eq!(ended.unwrap(), ErrorKind::ConnectionAborted);
        connections.gone().await;
        drop(client);
    }

    /// In two tasks, one of which reads and one writes.
    #[tokio::test(start_paused = true)]
    async fn both_halves_of_a_connection_are_broken_off() {
        let connections = Connections::new(Duration::MAX);
        let (io, client) = duplex(8);
        let (mut read, mut write) = tokio::io::split(Connection::new(io, &connections));
        let reading = tokio::spawn(async move { read.read_u8().await.unwrap_err().kind() });
        let writing = tokio::spawn(async move { write.write_all(&[1; 48]).await.unwrap_err().kind() });
        tokio::time::sleep(LIMIT).await;
        connections.break_off();
        for half in [reading, writing] {
            let ended = timeout(LIMIT, half).await.expect("it is broken off");
            assert_eq!(ended.unwrap(), ErrorKind::ConnectionAborted);
        }
        drop(client);
    }
}
