//! RabbitControl: a RabbitMQ's management interface, around the driver under test.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::servers::LIMIT;

/// `guest:guest`, the administrator of a fresh server, in Base64.
const CREDENTIALS: &str = "Z3Vlc3Q6Z3Vlc3Q=";

/// The management interface of one server.
#[derive(Clone, Copy, Debug)]
pub struct RabbitControl {
    addr: SocketAddr,
}

impl RabbitControl {
    /// The interface at an address. Nobody is asked anything yet.
    #[must_use]
    pub const fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }

    /// Asks for something under `/api/`.
    ///
    /// # Errors
    /// Nobody answers, or it is refused.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        self.call("GET", path, None).await
    }

    /// The server takes connections at this port of its machine.
    ///
    /// # Errors
    /// Nobody answers, or it does not.
    pub async fn listens(&self, port: u16) -> Result<(), String> {
        self.get(&format!("health/checks/port-listener/{port}")).await.map(drop)
    }

    /// Makes a virtual host of this name, and a user who may do everything there; its password is the name.
    ///
    /// # Errors
    /// Nobody answers, or it is refused.
    pub async fn add_vhost(&self, name: &str) -> Result<(), String> {
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        self.call("PUT", &format!("vhosts/{name}"), None).await?;
        self.call("PUT", &format!("users/{name}"), Some(&json!({ "password": name, "tags": "" }))).await?;
        self.call("PUT", &format!("permissions/{name}/{name}"), Some(&all)).await?;
        Ok(())
    }

    /// Removes what [`add_vhost`](Self::add_vhost) has made.
    ///
    /// # Errors
    /// Nobody answers, or it is refused.
    pub async fn remove_vhost(&self, name: &str) -> Result<(), String> {
        self.call("DELETE", &format!("vhosts/{name}"), None).await?;
        self.call("DELETE", &format!("users/{name}"), None).await.map(drop)
    }

    /// The names of a user's connections.
    ///
    /// # Errors
    /// Nobody answers, or not what was expected.
    pub async fn connections(&self, user: &str) -> Result<Vec<String>, String> {
        let list = self.get(&format!("connections/username/{user}")).await?;
        let list = list.as_array().ok_or_else(|| format!("connections: {list}"))?;
        Ok(list.iter().filter_map(|one| one["name"].as_str()).map(str::to_owned).collect())
    }

    /// The keys by which queues are bound to an exchange.
    ///
    /// # Errors
    /// Nobody answers, or not what was expected.
    pub async fn binding_keys(&self, vhost: &str, exchange: &str) -> Result<Vec<String>, String> {
        let list = self.get(&format!("bindings/{vhost}")).await?;
        let list = list.as_array().ok_or_else(|| format!("bindings: {list}"))?;
        let of_it = list.iter().filter(|binding| binding["source"] == exchange);
        Ok(of_it.filter_map(|one| one["routing_key"].as_str()).map(str::to_owned).collect())
    }

    /// The names of the streams of a virtual host.
    ///
    /// # Errors
    /// Nobody answers, or not what was expected.
    pub async fn streams(&self, vhost: &str) -> Result<Vec<String>, String> {
        let list = self.get(&format!("queues/{vhost}")).await?;
        let list = list.as_array().ok_or_else(|| format!("queues: {list}"))?;
        let streams = list.iter().filter(|queue| queue["arguments"]["x-queue-type"] == "stream");
        Ok(streams.filter_map(|one| one["name"].as_str()).map(str::to_owned).collect())
    }

    /// Publishes a message.
    ///
    /// # Errors
    /// Nobody answers, or it is refused.
    pub async fn publish(
        &self,
        vhost: &str,
        exchange: &str,
        key: &str,
        payload: &[u8],
    ) -> Result<(), String> {
        let message = json!({
            "properties": {},
            "routing_key": key,
            "payload": base64(payload),
            "payload_encoding": "base64",
        });
        self.call("POST", &format!("exchanges/{vhost}/{exchange}/publish"), Some(&message)).await.map(drop)
    }

    /// One request on a connection of its own. HTTP/1.0: the answer then comes in one piece.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} /api/{path} HTTP/1.0\r\nauthorization: Basic {CREDENTIALS}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let failed = |reason: &str| format!("{method} /api/{path} at {}: {reason}", self.addr);
        let answer = timeout(LIMIT, self.exchange(request.as_bytes())).await;
        let answer = answer.map_err(|_| failed("no answer"))?.map_err(|error| failed(&error.to_string()))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed("no answer"))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            return Err(failed(&format!("{status} {body}")));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(body).map_err(|error| failed(&format!("{error} in {body}")))
    }

    async fn exchange(&self, request: &[u8]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.addr).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| usize::from(chunk.get(n).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * n) & 63];
            text.push(if n <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_every_length() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"\xff\x00\xfe\xfd", "/wD+/Q=="),
        ] {
            assert_eq!(base64(bytes), text);
        }
        assert_eq!(base64(b"guest:guest"), super::CREDENTIALS);
    }
}
