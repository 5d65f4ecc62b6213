//! A server of the board in this process, and a browser without a screen.

use std::{net::SocketAddr, time::Duration};

use broker::Options;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// One server. Dropping it leaves it to the runtime.
pub(crate) struct Pixorama {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Pixorama {
    pub(crate) async fn start(url: &str) -> Self {
        Self::start_with(url, Options::default()).await
    }

    pub(crate) async fn start_with(url: &str, options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let broker = broker::open(url, options).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(pixorama::serve(listener, broker, stopped));
        Self { address, stop: Some(stop), serving }
    }

    /// Stops it, and waits until it has.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        timeout(LIMIT, self.serving).await.expect("it ends").unwrap().unwrap();
    }

    pub(crate) async fn browser(&self) -> Browser {
        let (socket, _) = connect_async(format!("ws://{}/live", self.address)).await.unwrap();
        Browser { socket, pixels: String::new(), status: Value::Null }
    }
}

/// A browser's side of the conversation.
pub(crate) struct Browser {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pixels: String,
    status: Value,
}

impl Browser {
    pub(crate) async fn send(&mut self, wish: Value) {
        self.socket.send(Message::text(wish.to_string())).await.unwrap();
    }

    /// The next word; `None` when the server has hung up.
    pub(crate) async fn word(&mut self) -> Option<Value> {
        loop {
            match timeout(LIMIT, self.socket.next()).await.expect("a word in time") {
                Some(Ok(Message::Text(text))) => {
                    let word: Value = serde_json::from_str(&text).unwrap();
                    self.note(&word);
                    return Some(word);
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    fn note(&mut self, word: &Value) {
        match word["is"].as_str() {
            Some("status") => self.status = word["status"].clone(),
            Some("board") => self.pixels = word["pixels"].as_str().unwrap().to_owned(),
            Some("pixel") => {
                let at = |name: &str| word[name].as_u64().unwrap() as usize;
                let (index, colour) = (at("y") * 64 + at("x"), at("colour"));
                self.pixels.replace_range(index..=index, &format!("{colour:x}"));
            }
            _ => {}
        }
    }

    /// Listens until a word is wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool + Send + Sync) -> Value {
        timeout(LIMIT, async {
            loop {
                let word = self.word().await.unwrap_or_else(|| panic!("hung up before: {what}"));
                if wanted(&word) {
                    return word;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
    }

    /// Listens until the line under the board says so.
    pub(crate) async fn status(&mut self, what: &str, wanted: impl Fn(&Value) -> bool + Send + Sync) {
        let seen = async {
            while !wanted(&self.status) {
                assert!(self.word().await.is_some(), "hung up before: {what}");
            }
        };
        timeout(LIMIT, seen).await.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"));
    }

    /// Listens until a pixel has a colour.
    pub(crate) async fn sees(&mut self, x: usize, y: usize, colour: char) {
        let seen = async {
            while self.pixels.chars().nth(y * 64 + x) != Some(colour) {
                assert!(self.word().await.is_some(), "hung up");
            }
        };
        timeout(LIMIT, seen).await.unwrap_or_else(|_| panic!("({x}, {y}) never becomes {colour}"));
    }

    pub(crate) async fn sign_in(&mut self, name: &str) -> Value {
        self.send(json!({ "do": "sign-in", "name": name, "since": null })).await;
        self.until("signed in", |word| word["is"] == "signed-in").await
    }

    pub(crate) async fn paint(&mut self, x: usize, y: usize, colour: usize) {
        self.send(json!({ "do": "paint", "x": x, "y": y, "colour": colour })).await;
    }
}
