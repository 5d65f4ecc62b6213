//! Cluster: keeps this server's board equal to those of the others, over the broker.
//!
//! A stroke goes to the others as it is made. Whenever strokes may be missing (at the start, after a gap, after a post
//! that failed) a server sends its whole board and asks for the others'; those that differ answer. Boards merge, so all
//! of that may happen at once, and more often than needed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use broker::{Broker, ErrorKind, MessageStream, Model, Scope, Session, StreamError, StreamItem};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    board::{Board, Picture, SIDE, Stroke},
    status::{BEAT, Census, People, Status},
};

/// Where strokes go; the name is that of Serverpod's showcase.
const STROKES: &str = "pixel-added";
const BOARDS: &str = "pixorama.boards";
const WANTED: &str = "pixorama.wanted";
const PEOPLE: &str = "pixorama.people";
/// In this process: what pages show anew.
const CHANGES: &str = "pixorama.changes";
/// A server answers with its board, and sends it around, no more often.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks for boards that differ from this.
#[derive(Clone, Debug, Serialize, Deserialize, Model)]
#[model(name = "board-wanted")]
struct Wanted {
    server: u64,
    digest: u64,
}

/// What pages have to show anew. The colour is read from the board when it is sent, so that the last one sent is
/// that of the board, in whatever order the strokes of one pixel come here.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, Model)]
#[model(name = "change")]
pub(crate) enum Change {
    Pixel(u16),
    Everything,
}

/// See the module.
pub(crate) struct Cluster {
    broker: Broker,
    /// For what never leaves this process: it has no backend, so that pages are served while that is away.
    pages: Broker,
    pub(crate) status: watch::Sender<Status>,
    /// Of the server itself; its streams live as long as it does.
    session: Session,
    board: Mutex<Board>,
    server: u64,
    census: Mutex<Census>,
    /// Strokes may be missing: here, or at the others.
    unequal: Notify,
    /// Somebody has asked for our board.
    asked: Notify,
}

/// Whatever arrives on one of the channels.
enum Received {
    Stroke(Stroke),
    Board(Picture),
    Wanted(Wanted),
    People(People),
    Gap,
    Nothing,
}

fn received<T: Model + Clone>(item: StreamItem<T>, as_received: fn(T) -> Received) -> Received {
    match item {
        Ok(value) => as_received((*value).clone()),
        Err(StreamError::Gap(_)) => Received::Gap,
        // Somebody else posts on our channel.
        Err(_) => Received::Nothing,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    /// Joins, and works until it is stopped.
    pub(crate) fn join(broker: Broker, stop: CancellationToken) -> Arc<Self> {
        let server = broker.node_id().as_u64();
        let status = Status {
            backend: broker.backend().unwrap_or("none").to_owned(),
            connected: broker.health().is_connected(),
            trouble: None,
            here: 0,
            everywhere: 0,
            servers: 1,
            gaps: 0,
        };
        let cluster = Arc::new(Self {
            session: broker.session(),
            board: Mutex::new(Board::new(server)),
            status: watch::Sender::new(status),
            census: Mutex::default(),
            pages: Broker::local(),
            unequal: Notify::new(),
            asked: Notify::new(),
            server,
            broker,
        });
        cluster.unequal.notify_one();
        let working = Arc::clone(&cluster);
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = working.listen() => {}
                () = working.become_equal() => {}
                () = working.answer() => {}
                () = working.count() => {}
                () = working.watch_health() => {}
            }
        });
        cluster
    }

    /// The board as a browser gets it.
    pub(crate) fn colours(&self) -> Vec<u8> {
        lock(&self.board).colours()
    }

    /// One pixel of it.
    pub(crate) fn colour(&self, index: u16) -> Option<u8> {
        lock(&self.board).colour(index)
    }

    /// Somebody here paints a pixel that is on the board, with a colour that there is.
    pub(crate) async fn paint(&self, session: &Session, index: u16, colour: u8) -> Result<(), broker::Error> {
        let (x, y) = (usize::from(index) % SIDE, usize::from(index) / SIDE);
        let Some(stroke) = lock(&self.board).paint(x as u8, y as u8, colour) else { return Ok(()) };
        self.show(Change::Pixel(index)).await;
        match session.post_message(STROKES, stroke, Scope::Global).await {
            Ok(_) => Ok(()),
            // It is on our board: the others get it when they can be reached.
            Err(error) if error.is_transient() => {
                self.unequal.notify_one();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// What changes on the board of this server, from now on.
    pub(crate) async fn changes(&self) -> broker::Result<MessageStream<Change>> {
        self.pages.create_stream(CHANGES).await
    }

    /// Tells the pages of this server.
    async fn show(&self, change: Change) {
        // Nobody may be looking; and it never leaves this process, so nothing can be in its way.
        let _ = self.pages.post_message(CHANGES, change, Scope::Local).await;
    }

    /// Receives the others, for as long as the broker lives.
    async fn listen(&self) {
        loop {
            match self.open().await {
                Ok((mut strokes, mut boards, mut wanted, mut people)) => {
                    self.unequal.notify_one();
                    loop {
                        let received = tokio::select! {
                            Some(item) = strokes.next() => received(item, Received::Stroke),
                            Some(item) = boards.next() => received(item, Received::Board),
                            Some(item) = wanted.next() => received(item, Received::Wanted),
                            Some(item) = people.next() => received(item, Received::People),
                            else => break,
                        };
                        self.receive(received).await;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Closed => return,
                Err(error) => {
                    self.status.send_modify(|status| status.trouble = Some(error.to_string()));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn open(
        &self,
    ) -> broker::Result<(
        MessageStream<Stroke>,
        MessageStream<Picture>,
        MessageStream<Wanted>,
        MessageStream<People>,
    )> {
        self.broker.ready().await?;
        tokio::try_join!(
            self.session.create_stream(STROKES),
            self.session.create_stream(BOARDS),
            self.session.create_stream(WANTED),
            self.session.create_stream(PEOPLE),
        )
    }

    async fn receive(&self, received: Received) {
        match received {
            Received::Stroke(stroke) => {
                let index = stroke.index().filter(|_| lock(&self.board).add(&stroke));
                if let Some(index) = index {
                    self.show(Change::Pixel(index)).await;
                }
            }
            Received::Board(picture) => {
                let news = {
                    let mut board = lock(&self.board);
                    picture.strokes.iter().fold(false, |news, stroke| board.add(stroke) | news)
                };
                if news {
                    self.show(Change::Everything).await;
                }
            }
            Received::Wanted(wanted) => {
                let differs = lock(&self.board).digest() != wanted.digest;
                if wanted.server != self.server && differs {
                    self.asked.notify_one();
                }
            }
            Received::People(people) if people.server != self.server => {
                lock(&self.census).note(people, Instant::now());
                self.recount();
            }
            Received::Gap => {
                self.status.send_modify(|status| status.gaps += 1);
                self.unequal.notify_one();
                // And the pages look anew: what they show may lack the same.
                self.show(Change::Everything).await;
            }
            Received::People(_) | Received::Nothing => {}
        }
    }

    /// Sends our board around and asks for the others', whenever strokes may be missing.
    async fn become_equal(&self) {
        loop {
            self.unequal.notified().await;
            while self.exchange().await.is_err() {
                if self.broker.ready().await.is_err() {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn exchange(&self) -> broker::Result<()> {
        self.broker.ready().await?;
        self.send_board().await?;
        let wanted = Wanted { server: self.server, digest: lock(&self.board).digest() };
        self.session.post_message(WANTED, wanted, Scope::Global).await.map(drop)
    }

    async fn send_board(&self) -> broker::Result<()> {
        let picture = lock(&self.board).picture();
        self.session.post_message(BOARDS, picture, Scope::Global).await.map(drop)
    }

    /// Answers with our board; however many ask at once, with one.
    async fn answer(&self) {
        loop {
            self.asked.notified().await;
            if self.send_board().await.is_err() {
                self.unequal.notify_one();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Says how many people are here: now and then, and soon after it changes.
    async fn count(&self) {
        let mut status = self.status.subscribe();
        loop {
            let here = status.borrow_and_update().here;
            let people = People { server: self.server, here };
            // When it fails the others find out: we fall silent.
            let _ = self.session.post_message(PEOPLE, people, Scope::Global).await;
            let changed = async {
                let _ = status.wait_for(|status| status.here != here).await;
                tokio::time::sleep(PAUSE).await;
            };
            let _ = tokio::time::timeout(BEAT, changed).await;
            self.recount();
        }
    }

    fn recount(&self) {
        let (servers, people) = lock(&self.census).others(Instant::now());
        self.status.send_if_modified(|status| {
            let before = status.clone();
            status.servers = servers + 1;
            status.everywhere = status.here.saturating_add(people);
            *status != before
        });
    }

    async fn watch_health(&self) {
        let mut changes = self.broker.health_changes();
        while let Some(health) = changes.next().await {
            self.status.send_modify(|status| {
                status.connected = health.is_connected();
                let trouble = health.last_error.filter(|_| !status.connected);
                status.trouble = trouble.map(|error| error.to_string());
            });
        }
        std::future::pending::<()>().await;
    }
}
