//! Session: the commands of one connection.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    log::Logs,
    operator,
    router::{Outbox, Router},
};

/// 1,000 names of the longest kind fit in.
const LONGEST_LINE: u64 = 512 << 10;
/// More than a frame of the broker has: other programs may publish, too.
const MOST_BYTES: usize = 8 << 20;

/// What all connections share. The log has a lock of its own: a disk that is slow delays no message.
#[derive(Clone)]
pub(crate) struct Server(Arc<(Mutex<Router>, Mutex<Logs>)>);

impl Server {
    pub(crate) fn new(data: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new((Mutex::default(), Mutex::new(Logs::open(data)?)))))
    }

    pub(crate) fn router(&self) -> MutexGuard<'_, Router> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn logs(&self) -> MutexGuard<'_, Logs> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one connection until it ends.
    pub(crate) fn serve(&self, socket: TcpStream) {
        let Ok(clone) = socket.try_clone() else { return };
        let _ = socket.set_nodelay(true);
        let mut input = Input(BufReader::new(clone));
        match input.line().as_deref() {
            Ok("LINES 1") => {
                let _ = self.serve_client(socket, input);
            }
            Ok("OPERATOR") => {
                let _ = operator::serve(self, &socket, input);
            }
            _ => {
                let _ = (&socket).write_all(b"NO protocol begin with LINES 1\n");
            }
        }
    }

    fn serve_client(&self, socket: TcpStream, mut input: Input) -> io::Result<()> {
        (&socket).write_all(b"LINES 1\n")?;
        let outbox = Outbox::start(socket)?;
        let client = self.router().enter(outbox);
        let mut outcome = Ok(true);
        while matches!(outcome, Ok(true)) {
            outcome = self.command(client, &mut input);
        }
        self.router().leave(client);
        outcome.map(|_| ())
    }

    /// Reads one command, and answers it. `false`: it was the last one.
    fn command(&self, client: u64, input: &mut Input) -> io::Result<bool> {
        let line = input.line()?;
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["SUB", ref channels @ ..] => done(self.router().subscribe(client, channels)),
            ["UNSUB", ref channels @ ..] => {
                self.router().unsubscribe(client, channels);
                done(Ok(()))
            }
            ["PUB", channel, length] => {
                let bytes = input.bytes(length)?;
                done(self.router().publish(channel, &bytes))
            }
            ["APPEND", log, retention, length] => {
                let bytes = input.bytes(length)?;
                self.of_log(log, retention, |logs, retention| {
                    let created = logs.append(log, retention, bytes)?;
                    Ok(if created { b"CREATED\n".to_vec() } else { b"OK\n".to_vec() })
                })
            }
            ["READ", log, retention, ref cursor @ ..] => self
                .of_log(log, retention, |logs, retention| logs.read(log, retention, cursor.first().copied())),
            ["BYE"] => {
                if let Some(outbox) = self.router().leave(client) {
                    outbox.send(&Arc::from(*b"OK\n"));
                }
                return Ok(false);
            }
            _ => b"NO protocol no such command\n".to_vec(),
        };
        self.router().answer(client, answer);
        Ok(true)
    }

    fn of_log(
        &self,
        log: &str,
        retention: &str,
        call: impl FnOnce(&mut Logs, Duration) -> io::Result<Vec<u8>>,
    ) -> Vec<u8> {
        let Ok(retention) = retention.parse().map(Duration::from_millis) else {
            return b"NO protocol the retention is no number\n".to_vec();
        };
        let allowed = self.router().allowed.check(log);
        let outcome =
            allowed.and_then(|()| call(&mut self.logs(), retention).map_err(|error| format!("disk {error}")));
        outcome.unwrap_or_else(|why| format!("NO {why}\n").into_bytes())
    }
}

fn done(outcome: Result<(), String>) -> Vec<u8> {
    outcome.map_or_else(|why| format!("NO {why}\n").into_bytes(), |()| b"OK\n".to_vec())
}

/// What a connection sends.
pub(crate) struct Input(BufReader<TcpStream>);

impl Input {
    /// One line, without its end.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.0).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        match line.pop() {
            Some(b'\n') => String::from_utf8(line).map_err(io::Error::other),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    pub(crate) fn bytes(&mut self, length: &str) -> io::Result<Vec<u8>> {
        let length = length.parse().ok().filter(|length| *length <= MOST_BYTES);
        let mut bytes = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
