//! Connection: one task that writes commands, and one that reads answers and messages.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use broker_core::{
    Error, ErrorKind, Result,
    driver::{ErrorContext, Inbox, LogCursor, LogDiscontinuity, LogPage},
};
use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
};

/// How many calls may wait to be written; a further one waits for its turn.
const COMMANDS: usize = 16;
/// How many written calls may wait for answers, until the writer pauses.
const UNANSWERED: usize = 1024;
/// The most bytes that a line of the server announces: other programs may publish more than a frame.
const MOST_BYTES: usize = 8 << 20;
/// A line of the server is shorter than this.
const LONGEST_LINE: u64 = 4096;

/// What the server answered to one command.
pub(crate) enum Answer {
    Done,
    Page(LogPage),
    Refused(Error),
}

/// Commands to write, and where their answers go. A call that is dropped closes that end, and nothing else
/// happens.
struct Call {
    commands: Vec<u8>,
    count: usize,
    answers: mpsc::Sender<Answer>,
}

/// The calls whose answers are still to come, oldest first: how many each, and where to.
type Expected = (usize, mpsc::Sender<Answer>);

/// Dropping it ends both tasks, and the socket with them.
pub(crate) struct Connection {
    pub(crate) peer: ErrorContext,
    calls: mpsc::Sender<Call>,
    created: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Connection {
    pub(crate) fn start(stream: TcpStream, peer: ErrorContext, inbox: Inbox) -> Self {
        let (read, write) = stream.into_split();
        let (calls, waiting) = mpsc::channel(COMMANDS);
        let (expect, expected) = mpsc::channel(UNANSWERED);
        let created = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let (writer_peer, writer_inbox) = (peer.clone(), inbox.clone());
        tasks.spawn(async move {
            if let Err(error) = write_calls(write, waiting, expect).await {
                writer_inbox.lost(writer_peer.io(&error));
            }
        });
        let reader = Reader {
            stream: BufReader::new(read),
            peer: peer.clone(),
            inbox,
            expected,
            current: None,
            created: Arc::clone(&created),
        };
        tasks.spawn(reader.run());
        Self { peer, calls, created, _tasks: tasks }
    }

    /// Writes `count` commands, in the order in which calls are first polled, and returns their answers. There are
    /// fewer if the connection ends, and the error says whether they may have been sent.
    pub(crate) async fn call(&self, commands: Vec<u8>, count: usize) -> (Vec<Answer>, Option<Error>) {
        let (answers, mut received) = mpsc::channel(count);
        if self.calls.send(Call { commands, count, answers }).await.is_err() {
            return (Vec::new(), Some(self.peer.disconnected()));
        }
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            match received.recv().await {
                Some(answer) => all.push(answer),
                None => {
                    let error = self.peer.error(ErrorKind::Interrupted, "ended the connection unanswered");
                    return (all, Some(error));
                }
            }
        }
        (all, None)
    }

    /// One command, and its answer.
    pub(crate) async fn ask(&self, command: Vec<u8>) -> Result<Option<LogPage>> {
        let (mut answers, error) = self.call(command, 1).await;
        match (answers.pop(), error) {
            (Some(Answer::Done), _) => Ok(None),
            (Some(Answer::Page(page)), _) => Ok(Some(page)),
            (Some(Answer::Refused(error)), _) | (None, Some(error)) => Err(error),
            (None, None) => Err(self.peer.not_this_protocol()),
        }
    }

    /// Whether the server has made a log for a call of this link since this was last asked; also for a call that
    /// was dropped before its answer came.
    pub(crate) fn take_created(&self) -> bool {
        self.created.swap(false, Ordering::SeqCst)
    }
}

async fn write_calls(
    mut socket: OwnedWriteHalf,
    mut calls: mpsc::Receiver<Call>,
    expect: mpsc::Sender<Expected>,
) -> std::io::Result<()> {
    while let Some(Call { commands, count, answers }) = calls.recv().await {
        if expect.send((count, answers)).await.is_err() {
            // The reader has ended, and has said why.
            return Ok(());
        }
        socket.write_all(&commands).await?;
    }
    Ok(())
}

struct Reader {
    stream: BufReader<OwnedReadHalf>,
    peer: ErrorContext,
    inbox: Inbox,
    expected: mpsc::Receiver<Expected>,
    current: Option<Expected>,
    created: Arc<AtomicBool>,
}

impl Reader {
    async fn run(mut self) {
        loop {
            if let Err(error) = self.step().await {
                return self.inbox.lost(error);
            }
        }
    }

    /// Reads one line, and what belongs to it.
    async fn step(&mut self) -> Result<()> {
        let line = self.line().await?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["MSG", channel, length] => {
                let frame = self.bytes(length).await?;
                self.inbox.deliver(channel, frame);
                Ok(())
            }
            ["OK"] => self.answer(Answer::Done),
            ["CREATED"] => {
                self.created.store(true, Ordering::SeqCst);
                self.answer(Answer::Done)
            }
            ["PAGE", cursor, more, broken, created, count] => {
                let page = self.page(cursor, more == "1", broken, count).await?;
                self.created.fetch_or(created == "1", Ordering::SeqCst);
                self.answer(Answer::Page(page))
            }
            ["NO", kind, ..] => {
                let kind = if kind == "forbidden" { ErrorKind::Forbidden } else { ErrorKind::Other };
                let why = words[2..].join(" ");
                let error = self.peer.error(kind, why);
                self.answer(Answer::Refused(error))
            }
            _ => Err(self.peer.not_this_protocol()),
        }
    }

    /// Hands an answer to the oldest call that still expects one.
    fn answer(&mut self, answer: Answer) -> Result<()> {
        let taken = self.current.take().or_else(|| self.expected.try_recv().ok());
        let (count, answers) = taken.ok_or_else(|| self.peer.not_this_protocol())?;
        // A call that was dropped wants no answer; there is room for each of the others.
        let _ = answers.try_send(answer);
        self.current = (count > 1).then_some((count - 1, answers));
        Ok(())
    }

    async fn page(&mut self, cursor: &str, more: bool, broken: &str, count: &str) -> Result<LogPage> {
        let broken = match broken {
            "-" => None,
            "replaced" => Some(LogDiscontinuity::Replaced),
            "rolled-back" => Some(LogDiscontinuity::RolledBack),
            "trimmed" => Some(LogDiscontinuity::Trimmed),
            _ => return Err(self.peer.not_this_protocol()),
        };
        let count: usize = count.parse().map_err(|_| self.peer.not_this_protocol())?;
        let mut records = Vec::new();
        for _ in 0..count {
            let length = self.line().await?;
            records.push(self.bytes(&length).await?);
        }
        // Whether a log was made is added when the page is returned.
        Ok(LogPage { records, cursor: LogCursor::new(cursor), more, broken, created: false })
    }

    /// One line, without its end.
    async fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(LONGEST_LINE);
        limited.read_until(b'\n', &mut line).await.map_err(|error| self.peer.io(&error))?;
        match line.pop() {
            None => Err(self.peer.disconnected()),
            Some(b'\n') => String::from_utf8(line).map_err(|_| self.peer.not_this_protocol()),
            Some(_) => Err(self.peer.not_this_protocol()),
        }
    }

    async fn bytes(&mut self, length: &str) -> Result<Bytes> {
        let length = length.parse().ok().filter(|length| *length <= MOST_BYTES);
        let mut bytes = vec![0; length.ok_or_else(|| self.peer.not_this_protocol())?];
        self.stream.read_exact(&mut bytes).await.map_err(|error| self.peer.io(&error))?;
        Ok(bytes.into())
    }
}
