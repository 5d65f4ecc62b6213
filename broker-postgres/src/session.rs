//! Session: one connection to the server, the task that drives it, and what becomes of it when it ends.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use broker_core::{
    Error, Result,
    driver::{ErrorContext, Inbox, Place},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Notification};
use tokio_util::task::AbortOnDropHandle;

#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::{address::Address, errors::translate, socket::Socket};

/// The way to one address of one server.
pub(crate) struct Way {
    address: Arc<Address>,
    at: SocketAddr,
    pub(crate) peer: ErrorContext,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

impl Way {
    /// Reads the files of the URL, if it has some.
    pub(crate) async fn new(address: Arc<Address>, place: &Place) -> Result<Self> {
        let peer = address.peer.at(place);
        #[cfg(feature = "tls")]
        let tls = match &address.tls {
            None => None,
            Some(files) => Some(Tls::new(files, &place.server.host, &peer).await?),
        };
        Ok(Self {
            at: place.address,
            peer,
            #[cfg(feature = "tls")]
            tls,
            address,
        })
    }

    /// Opens a session. `on_notification` is called for each notification, inside the session's task: it must not block.
    pub(crate) async fn open(
        &self,
        name: &str,
        fate: &Arc<Fate>,
        on_notification: impl FnMut(&Notification) + Send + 'static,
    ) -> Result<Session> {
        let (socket, config) = (self.socket().await?, self.address.config(name));
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let opened = config.connect_raw(socket, tls.clone()).await;
            return opened
                .map(|opened| self.session(opened, fate, on_notification))
                .map_err(|error| translate(&self.peer, &error));
        }
        let opened = config.connect_raw(socket, NoTls).await;
        opened
            .map(|opened| self.session(opened, fate, on_notification))
            .map_err(|error| translate(&self.peer, &error))
    }

    fn session<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        (client, connection): (Client, Connection<Socket, T>),
        fate: &Arc<Fate>,
        on_notification: impl FnMut(&Notification) + Send + 'static,
    ) -> Session {
        let version = connection.parameter("server_version").map(Arc::from);
        let driving = drive(connection, self.peer.clone(), Arc::clone(fate), on_notification);
        let task = AbortOnDropHandle::new(tokio::spawn(fate.inbox.guard("drives a connection", driving)));
        Session { client: Mutex::new(Some(Arc::new(client))), task: Mutex::new(Some(task)), version }
    }

    async fn socket(&self) -> Result<Socket> {
        let failed = |error| self.peer.io(&error);
        let stream = TcpStream::connect(self.at).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Socket(stream))
    }

    /// Asks the server to end the statement that the session is at, if it is at one, and waits until it has hung up: then it has
    /// done so. It does not answer whether there was one, and a request that it does not take is over.
    pub(crate) async fn cancel(&self, session: &Session) {
        let (Ok(client), Ok(socket)) = (session.client(), self.socket().await) else { return };
        let token = client.cancel_token();
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return drop(token.cancel_query_raw(socket, tls.clone()).await);
        }
        drop(token.cancel_query_raw(socket, NoTls).await);
    }
}

/// Runs a connection to its end.
async fn drive<T: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<Socket, T>,
    peer: ErrorContext,
    fate: Arc<Fate>,
    mut on_notification: impl FnMut(&Notification),
) {
    let end = loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => on_notification(&notification),
            // A notice is for people.
            Some(Ok(_)) => {}
            Some(Err(error)) => break translate(&peer, &error),
            None => break peer.disconnected(),
        }
    };
    fate.ended(end);
}

/// One connection. Dropping it ends its task and its socket.
pub(crate) struct Session {
    /// `None` once it is closed.
    client: Mutex<Option<Arc<Client>>>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
    /// As the server reports it.
    pub(crate) version: Option<Arc<str>>,
}

impl Session {
    /// The client.
    ///
    /// # Errors
    /// The session is closed.
    pub(crate) fn client(&self) -> Result<Arc<Client>> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        client.ok_or_else(|| Error::new(broker_core::ErrorKind::Closed, "the link is closed"))
    }

    /// Says goodbye, and waits until the server has hung up.
    pub(crate) async fn close(&self) {
        drop(self.client.lock().unwrap_or_else(PoisonError::into_inner).take());
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A panic was reported to the inbox.
            let _ = task.await;
        }
    }
}

/// What becomes of a link when one of its sessions ends: before it is up, its opening fails, and later it is lost.
pub(crate) struct Fate {
    inbox: Inbox,
    stage: Mutex<Stage>,
}

enum Stage {
    Opening,
    Failed(Error),
    Up,
}

impl Fate {
    pub(crate) fn new(inbox: Inbox) -> Arc<Self> {
        Arc::new(Self { inbox, stage: Mutex::new(Stage::Opening) })
    }

    /// A session ended, or is of no use.
    pub(crate) fn ended(&self, error: Error) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        match *stage {
            Stage::Opening => *stage = Stage::Failed(error),
            Stage::Failed(_) => {}
            Stage::Up => {
                drop(stage);
                self.inbox.lost(error);
            }
        }
    }

    /// From here on the link is one.
    ///
    /// # Errors
    /// A session has ended already.
    pub(crate) fn up(&self) -> Result<()> {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Stage::Failed(error) = &*stage {
            return Err(error.clone());
        }
        *stage = Stage::Up;
        Ok(())
    }
}
