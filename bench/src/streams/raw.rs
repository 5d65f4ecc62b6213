//! A client that costs next to nothing: a connection, frames written by hand, and a count of what comes back.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::Outcome;

/// A WebSocket to a server of this benchmark.
pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

/// One frame of text, masked with zeros.
pub(crate) fn frame(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(length) if length < 126 => bytes.push(0x80 | length as u8),
        Ok(length) => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, path: &str) -> Outcome<Self> {
        Self::of(TcpStream::connect(address).await?, path).await
    }

    /// With so many bytes that the kernel keeps while nobody reads.
    pub(crate) async fn connect_with_buffer(address: SocketAddr, path: &str, bytes: u32) -> Outcome<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(bytes)?;
        Self::of(socket.connect(address).await?, path).await
    }

    async fn of(mut stream: TcpStream, path: &str) -> Outcome<Self> {
        let address = stream.peer_addr()?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut client = Self { stream, read: Vec::new() };
        loop {
            if let Some(end) = client.read.windows(4).position(|window| window == b"\r\n\r\n") {
                if !client.read.starts_with(b"HTTP/1.1 101") {
                    return Err(format!("no WebSocket at {path}").into());
                }
                client.read.drain(..end + 4);
                return Ok(client);
            }
            client.fill().await?;
        }
    }

    async fn fill(&mut self) -> Outcome {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err("the server has closed the socket".into()),
            _ => Ok(()),
        }
    }

    /// Writes frames as they are.
    pub(crate) async fn write(&mut self, frames: &[u8]) -> Outcome {
        Ok(self.stream.write_all(frames).await?)
    }

    /// Waits for the next frame of text, and gives what it says.
    pub(crate) async fn next(&mut self) -> Outcome<String> {
        loop {
            let Some((opcode, start, end)) = complete(&self.read) else {
                self.fill().await?;
                continue;
            };
            let text = String::from_utf8_lossy(&self.read[start..end]).into_owned();
            self.read.drain(..end);
            if opcode == 1 {
                return Ok(text);
            }
        }
    }

    /// Waits for so many frames of text, and looks at none.
    pub(crate) async fn skip(&mut self, count: usize) -> Outcome {
        let mut left = count;
        while left > 0 {
            let mut used = 0;
            while left > 0
                && let Some((opcode, _, end)) = complete(&self.read[used..])
            {
                used += end;
                // Pings are not counted.
                left -= usize::from(opcode == 1);
            }
            self.read.drain(..used);
            if left > 0 {
                self.fill().await?;
            }
        }
        Ok(())
    }

    /// The same without the memory of its buffer.
    pub(crate) fn idle(mut self) -> Self {
        self.read.shrink_to_fit();
        self
    }
}

/// The opcode of a frame that is all there, and where its payload is.
fn complete(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (opcode, length) = (bytes.first()? & 0x0f, bytes.get(1)? & 0x7f);
    let (start, length) = match length {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into()),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, length.into()),
    };
    (bytes.len() >= start + length).then_some((opcode, start, start + length))
}
