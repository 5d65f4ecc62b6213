//! A server of the board in this process, and a browser without a screen.

use std::{net::SocketAddr, time::Duration};

use broker::Options;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use pixorama::Limits;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

/// How long anything that is waited for may take: for what hangs, not for a machine that is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

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

    pub(crate) async fn browser(&self) -> Browser {
        Browser::new(self.socket().await)
    }

    /// A connection that nobody reads.
    pub(crate) async fn socket(&self) -> Socket {
        connect_async(format!("ws://{}/live", self.address)).await.unwrap().0
    }
}

/// A browser's side of the conversation. As a real one it reads all the time, also while nobody asks what it shows.
pub(crate) struct Browser {
    sink: SplitSink<Socket, Message>,
    /// What it shows now; no longer written once the server has hung up.
    shown: watch::Receiver<Shown>,
    /// What it was answered.
    answers: mpsc::UnboundedReceiver<Value>,
    reading: JoinHandle<()>,
}

#[derive(Default)]
struct Shown {
    pixels: String,
    status: Value,
}

impl Shown {
    fn pixel(&self, x: usize, y: usize) -> Option<char> {
        self.pixels.chars().nth(y * 64 + x)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Reads until the server hangs up.
async fn read(
    mut from: SplitStream<Socket>,
    shown: watch::Sender<Shown>,
    answers: mpsc::UnboundedSender<Value>,
) {
    while let Some(Ok(message)) = from.next().await {
        let Message::Text(text) = message else {
            if message.is_close() {
                return;
            }
            continue;
        };
        let word: Value = serde_json::from_str(&text).unwrap();
        match word["is"].as_str() {
            Some("status") => shown.send_modify(|shown| shown.status = word["status"].clone()),
            Some("board") => {
                let pixels = word["pixels"].as_str().unwrap();
                shown.send_modify(|shown| pixels.clone_into(&mut shown.pixels));
            }
            Some("pixel") => {
                let at = |name: &str| word[name].as_u64().unwrap() as usize;
                let (index, colour) = (at("y") * 64 + at("x"), at("colour"));
                shown.send_modify(|shown| shown.pixels.replace_range(index..=index, &format!("{colour:x}")));
            }
            _ => drop(answers.send(word)),
        }
    }
}

impl Browser {
    fn new(socket: Socket) -> Self {
        let (sink, stream) = socket.split();
        let ((show, shown), (answer, answers)) =
            (watch::channel(Shown::default()), mpsc::unbounded_channel());
        Self { sink, shown, answers, reading: tokio::spawn(read(stream, show, answer)) }
    }

    pub(crate) async fn send(&mut self, wish: Value) {
        assert!(self.send_anything(wish.to_string()).await, "hung up");
    }

    /// Whether the server still takes it.
    pub(crate) async fn send_anything(&mut self, text: String) -> bool {
        self.sink.send(Message::text(text)).await.is_ok()
    }

    /// Waits until the server has hung up.
    pub(crate) async fn hung_up(mut self) {
        let ended = timeout(LIMIT, &mut self.reading).await;
        ended.expect("the server hangs up").unwrap();
    }

    /// Waits for an answer that is wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool + Send + Sync) -> Value {
        timeout(LIMIT, async {
            loop {
                let word = self.answers.recv().await.unwrap_or_else(|| panic!("hung up before: {what}"));
                if wanted(&word) {
                    return word;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
    }

    async fn shows(&mut self, what: &str, wanted: impl Fn(&Shown) -> bool + Send + Sync) {
        let shown = timeout(LIMIT, self.shown.wait_for(wanted)).await;
        let shown = shown.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"));
        assert!(shown.is_ok(), "hung up before: {what}");
    }

    /// Waits until the line under the board says so.
    pub(crate) async fn status(&mut self, what: &str, wanted: impl Fn(&Value) -> bool + Send + Sync) {
        self.shows(what, |shown| wanted(&shown.status)).await;
    }

    /// Waits until a pixel has a colour.
    pub(crate) async fn sees(&mut self, x: usize, y: usize, colour: char) {
        self.shows(&format!("({x}, {y}) is {colour}"), |shown| shown.pixel(x, y) == Some(colour)).await;
    }

    pub(crate) async fn sign_in(&mut self, name: &str) -> Value {
        self.send(json!({ "do": "sign-in", "name": name, "since": null })).await;
        self.until("signed in", |word| word["is"] == "signed-in").await
    }

    pub(crate) async fn paint(&mut self, x: usize, y: usize, colour: usize) {
        self.send(json!({ "do": "paint", "x": x, "y": y, "colour": colour })).await;
    }
}
