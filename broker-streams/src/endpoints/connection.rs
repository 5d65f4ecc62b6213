//! Connection: a task that reads texts, lets the endpoints work, and writes what they send.

use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::frame::coding::CloseCode};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    Any,
    erased::Boxed,
    frame::{Frame, PONG},
    inbox::{Inbox, Item},
    shared::Shared,
    work::{State, close, dropped, work},
};
use crate::{
    auth::Head,
    server::Server,
    socket::{
        READ_AT_ONCE, STOPPING,
        link::{Ending, Link, Transport},
        outbox::Outbox,
        turns::{Turn, Turns},
    },
};

/// The time in which the messages are handled that a client had sent before it went, and the time that endpoints have to close.
const REST: Duration = Duration::from_secs(1);

/// One connection.
struct Connection<'a, S> {
    /// In a box: futures that move it have room for it twice.
    link: Box<Link<S>>,
    server: Arc<Server>,
    inbox: &'a Inbox,
    /// Until it has ended.
    work: Option<Boxed<'a, Ending>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Serves a connection until its end.
pub(super) async fn serve<S: Transport>(
    web: WebSocketStream<S>,
    server: Arc<Server>,
    head: Head,
    key: Option<String>,
) {
    let mut link = Box::new(Link::new(web, &server.limits, server.meter.clone()));
    // These clients need not send anything.
    link.clock.first_frame = None;
    let inbox = Inbox::new(&server.limits, &link.outbox);
    let shared = Arc::new(Shared::new(Arc::clone(&server), Arc::clone(&link.outbox), head));
    // Held by the work until its end, and then by what closes them.
    let states = Mutex::new(server.streaming.iter().map(|_| State::Unopened).collect::<Vec<_>>());
    let stop = Box::pin(server.ending.clone().cancelled_owned());
    // What a user's type does when it is dropped must not take the end from the other endpoints.
    let working = AssertUnwindSafe(work(&shared, key, &states, &inbox)).catch_unwind();
    let working = Box::pin(working.map(|ending| ending.unwrap_or_else(|_| panicked())));
    let mut connection = Connection { link, server, inbox: &inbox, work: Some(working), stop };
    let ending = poll_fn(|cx| connection.poll(cx)).await;
    let Connection { mut link, mut work, mut stop, .. } = connection;
    let gone = matches!(ending, Ending::Lost | Ending::ClosedByClient);
    let rest = async {
        if let Some(work) = work.as_mut().filter(|_| gone) {
            inbox.end();
            tokio::select! {
                _ = timeout(REST, work) => {}
                () = &mut stop => {}
            }
        }
        dropped(work);
        let states = std::mem::take(&mut *states.lock().await);
        close(states, REST).await;
        shared.close();
    };
    let end = async {
        link.end(ending).await;
        // The client need not wait for the rest.
        drop(link);
    };
    tokio::join!(end, rest);
}

/// How a connection ends when something of its endpoints panicked outside of their functions.
fn panicked() -> Ending {
    tracing::error!("something of a streaming endpoint panicked outside of its functions");
    Ending::Close(CloseCode::Error, "an internal error")
}

impl<S: Transport> Turns for Connection<'_, S> {
    fn outbox(&self) -> &Outbox {
        &self.link.outbox
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, Ending> {
        let read_all = self.poll_read(cx)?;
        let ended = self.work.as_mut().map(|work| work.as_mut().poll(cx));
        // Behind the work, so that what it had to say is written.
        let can_write = self.link.poll_write(cx)?;
        if let Some(Poll::Ready(ending)) = ended {
            self.work = None;
            return Err(ending);
        }
        if self.stop.as_mut().poll(cx).is_ready() {
            return Err(Ending::Close(CloseCode::Restart, STOPPING));
        }
        while let Poll::Ready(due) = self.link.clock.poll(cx, &self.server.limits) {
            self.link.on_time(due)?;
        }
        // What was not read for the answers that waited can be read, if they are written.
        let go_on = !read_all || (can_write && self.link.readable.is_set() && self.may_read());
        Ok(if go_on { Turn::Again } else { Turn::Wait { can_write } })
    }
}

impl<S: Transport> Connection<'_, S> {
    /// Whether all that has arrived was read, or must not be read now.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if !self.link.readable.take(cx) {
            return Ok(true);
        }
        let waker = self.link.readable.waker();
        let cx = &mut Context::from_waker(&waker);
        for count in 0..READ_AT_ONCE {
            if !self.may_read() {
                self.link.readable.put_back();
                if !self.inbox.has_room() {
                    // The client is not silent: nobody listens.
                    self.link.clock.last_read = Instant::now();
                }
                return Ok(true);
            }
            let Poll::Ready(text) = self.link.poll_read(cx) else { return Ok(true) };
            if count == 0 {
                self.link.clock.last_read = Instant::now();
            }
            match text {
                Ok(Some(text)) => self.on_text(&text),
                Ok(None) => {}
                Err(Ending::BadRequest(_)) => {
                    self.server.meter.bad_frame();
                    self.inbox.push(Item::Bad("a frame is no UTF-8"));
                }
                Err(ending) => return Err(ending),
            }
        }
        self.link.readable.put_back();
        Ok(false)
    }

    /// Whether the client may make the server do more.
    fn may_read(&self) -> bool {
        self.inbox.has_room() && self.link.outbox.may_answer()
    }

    fn on_text(&self, text: &str) {
        let frame = Frame::read(text);
        let meter = &self.server.meter;
        match &frame {
            Ok(Frame::Message { .. }) => meter.read_type("message"),
            Ok(_) => meter.read_type("command"),
            Err(_) => meter.bad_frame(),
        }
        let item = match frame {
            Ok(Frame::Ping) => return self.link.outbox.control(PONG.into()),
            Ok(Frame::Other) => return,
            Ok(Frame::Authenticate(key)) => Item::Authenticate(key),
            Ok(Frame::Message { endpoint, class_name, json }) => {
                match self.server.endpoints.get(&*endpoint) {
                    Some(methods) => match methods.streaming {
                        Some(place) => Item::Message(place, Any::new(&class_name, json)),
                        // It only has methods.
                        None => return,
                    },
                    None => Item::Bad("there is no such endpoint"),
                }
            }
            Err(_) => Item::Bad("a frame cannot be read"),
        };
        self.inbox.push(item);
    }
}
