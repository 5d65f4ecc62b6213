//! Router: who is connected, what they subscribe to, and what they may. One lock is around it, so all receive the
//! messages of a channel in one order.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::Write,
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

/// A client for which more bytes than this are waiting is cut off.
const MOST_WAITING: usize = 64 << 20;

/// What waits to be sent to one client.
pub(crate) struct Outbox {
    queue: mpsc::Sender<Arc<[u8]>>,
    waiting: Arc<AtomicUsize>,
    socket: TcpStream,
}

impl Outbox {
    pub(crate) fn start(socket: TcpStream) -> std::io::Result<Self> {
        let (queue, queued) = mpsc::channel::<Arc<[u8]>>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (mut writer, written) = (socket.try_clone()?, Arc::clone(&waiting));
        thread::spawn(move || {
            for bytes in queued {
                if writer.write_all(&bytes).is_err() {
                    break;
                }
                written.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            // Whatever was queued before the end is sent by now.
            let _ = writer.shutdown(Shutdown::Both);
        });
        Ok(Self { queue, waiting, socket })
    }

    pub(crate) fn send(&self, bytes: &Arc<[u8]>) {
        if self.waiting.fetch_add(bytes.len(), Ordering::Relaxed) > MOST_WAITING {
            self.cut_off();
        } else {
            // An error: the writer has ended, and the reader is about to.
            let _ = self.queue.send(Arc::clone(bytes));
        }
    }

    fn cut_off(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Which channels the server lets through.
#[derive(Default)]
pub(crate) enum Allowed {
    #[default]
    Everything,
    /// Those that begin with this, and the broker's own.
    Start(String),
    Nothing,
}

impl Allowed {
    pub(crate) fn check(&self, name: &str) -> Result<(), String> {
        let allowed = match self {
            Self::Everything => true,
            Self::Start(start) => {
                name.starts_with(start) || name.split('.').any(|segment| segment.starts_with('$'))
            }
            Self::Nothing => false,
        };
        if allowed { Ok(()) } else { Err(format!("forbidden no permission for `{name}`")) }
    }
}

#[derive(Default)]
pub(crate) struct Router {
    pub(crate) allowed: Allowed,
    clients: HashMap<u64, Outbox>,
    last: u64,
    /// Sorted; none is without a subscriber.
    channels: BTreeMap<String, BTreeSet<u64>>,
}

impl Router {
    pub(crate) fn enter(&mut self, outbox: Outbox) -> u64 {
        self.last += 1;
        self.clients.insert(self.last, outbox);
        self.last
    }

    /// Forgets a client, and what it subscribes to. Its connection ends when what is queued has been sent.
    pub(crate) fn leave(&mut self, client: u64) -> Option<Outbox> {
        self.channels.retain(|_, clients| {
            clients.remove(&client);
            !clients.is_empty()
        });
        self.clients.remove(&client)
    }

    pub(crate) fn answer(&self, client: u64, answer: Vec<u8>) {
        if let Some(outbox) = self.clients.get(&client) {
            outbox.send(&answer.into());
        }
    }

    pub(crate) fn subscribe(&mut self, client: u64, channels: &[&str]) -> Result<(), String> {
        channels.iter().try_for_each(|channel| self.allowed.check(channel))?;
        // A client that was cut off subscribes to nothing any more.
        if self.clients.contains_key(&client) {
            for channel in channels {
                self.channels.entry((*channel).to_owned()).or_default().insert(client);
            }
        }
        Ok(())
    }

    pub(crate) fn unsubscribe(&mut self, client: u64, channels: &[&str]) {
        for channel in channels {
            if let Some(clients) = self.channels.get_mut(*channel) {
                clients.remove(&client);
                if clients.is_empty() {
                    self.channels.remove(*channel);
                }
            }
        }
    }

    /// Queues a message for every subscriber.
    pub(crate) fn publish(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
        self.allowed.check(channel)?;
        if let Some(clients) = self.channels.get(channel) {
            let head = format!("MSG {channel} {}\n", bytes.len());
            let message: Arc<[u8]> = [head.as_bytes(), bytes].concat().into();
            clients
                .iter()
                .filter_map(|client| self.clients.get(client))
                .for_each(|outbox| outbox.send(&message));
        }
        Ok(())
    }

    pub(crate) fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.keys().map(String::as_str)
    }

    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Ends every connection at once.
    pub(crate) fn cut_off_all(&mut self) {
        self.channels.clear();
        self.clients.drain().for_each(|(_, outbox)| outbox.cut_off());
    }
}
