//! Log: the revocation log, which is a stream of JetStream. It is read record by record, and no consumer ever exists.

use std::{
    fmt::{Display, Write},
    ops::RangeInclusive,
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use async_nats::{Message, StatusCode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use broker_core::{
    Error,
    ErrorKind::{self, Misconfigured, Other, Unavailable, Unsupported},
    Result,
    driver::{Inspection, LogCursor, LogDiscontinuity, LogPage, LogSpec, Warning},
};
use bytes::Bytes;
use futures_util::{
    StreamExt, TryStreamExt,
    stream::{FuturesUnordered, iter},
};
use humantime::parse_rfc3339;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::{cluster::Cluster, link::NatsLink, place::Place};

/// How many records a page holds. The longest ones still come through a slow network within the limit.
const PAGE: u64 = 256;
/// How many of them are asked for at once. Where all are refused there is still room for other complaints.
const FETCHES: usize = 28;
/// The time between two looks, where only time helps: the servers of a cluster elect its leader.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a question waits for its answer before it is asked once more. Each later one waits twice as long.
const AGAIN: Duration = Duration::from_millis(500);

const NO_LEADER: &str = "has no leader for the log at the moment";

/// The numbers of errors that answer a question.
const NO_STREAM: &[u64] = &[10059];
const NO_RECORD: &[u64] = &[10037];
/// Somebody else was faster, with the same settings at the same moment (the first) or with others.
const IS_MADE: &[u64] = &[10049, 10058];
/// Nothing was done.
const LEADERLESS: &[u64] = &[10008];
const NOT_SO_MANY: &[u64] = &[10005, 10049, 10058, 10074];

/// How many servers of a cluster have the log, where there are as many.
const REPLICAS: usize = 3;

/// One log, as seen through a link.
pub(crate) struct Log<'a> {
    link: &'a NatsLink,
    log: &'a LogSpec,
    stream: String,
    subject: String,
}

/// The stream as it is now. Times are only ever compared.
struct Info {
    /// Another one after it was deleted.
    created: String,
    /// The number of the oldest record.
    first: u64,
    last: u64,
    /// The time of the last record, also when that is not kept any more.
    last_time: String,
    /// How many of the records that ever were are gone, for whatever reason.
    gone: u64,
}

/// A record, as the server tells it.
struct Record {
    bytes: Bytes,
    time: String,
}

impl<'a> Log<'a> {
    pub(crate) fn new(link: &'a NatsLink, log: &'a LogSpec) -> Self {
        Self { link, log, stream: stream_name(log.name.as_str()), subject: format!("{}.log", log.name) }
    }

    /// See [`DurableLog::append`](broker_core::driver::DurableLog::append).
    pub(crate) async fn append(&self, record: Bytes) -> Result<()> {
        // Without a stream there may be no answer: somebody else may listen there.
        self.info().await?;
        let until = self.patience();
        loop {
            let answer = self.link.ask(self.subject.clone(), record.clone()).await?;
            if answer.status != Some(StatusCode::NO_RESPONDERS)
                && let Some(receipt) = self.read(&answer, LEADERLESS)?
            {
                // Another stream answers just as well.
                return if receipt["stream"] == *self.stream { Ok(()) } else { Err(self.taken()) };
            }
            // Of one that was just made the link's server may not know yet, and it may have no leader.
            if Instant::now() >= until {
                return Err(self.error(Unavailable, NO_LEADER));
            }
            sleep(PAUSE).await;
        }
    }

    /// See [`DurableLog::read`](broker_core::driver::DurableLog::read).
    pub(crate) async fn page(&self, after: &LogCursor) -> Result<LogPage> {
        let page = self.read_page(after).await?;
        Ok(LogPage { created: self.link.log_created.swap(false, Relaxed), ..page })
    }

    async fn read_page(&self, after: &LogCursor) -> Result<LogPage> {
        let broken = match after.place().map(Place::parse) {
            None => None,
            Some(None) => Some(LogDiscontinuity::Replaced),
            Some(Some(place)) => match self.after(&place).await? {
                Since::Records(page) => return Ok(page),
                Since::Lost(how) => Some(how),
            },
        };
        // All of it, as it is now.
        let info = self.info().await?;
        let records = self.fetch(info.first..=info.last.min(info.first + PAGE - 1)).await?;
        Ok(LogPage { broken, ..turn(&info, info.first - 1, info.gone, records) })
    }

    /// The records after a place, or why that is none any more.
    async fn after(&self, place: &Place) -> Result<Since> {
        let info = self.info().await?;
        let at = place.sequence;
        if place.created != info.created {
            return Ok(Since::Lost(LogDiscontinuity::Replaced));
        }
        if at > info.last || (at == info.last && place.time != info.last_time) {
            return Ok(Since::Lost(LogDiscontinuity::RolledBack));
        }
        // The record at the place is read once more, as long as it is kept: it must be the one that was there.
        let again = at >= info.first && at < info.last;
        let from = if again { at } else { at + 1 };
        let mut records = self.fetch(from..=info.last.min(at.saturating_add(PAGE))).await?;
        let lost = records.iter().any(Option::is_none);
        if again && records.remove(0).is_some_and(|record| record.time != place.time) {
            return Ok(Since::Lost(LogDiscontinuity::RolledBack));
        }
        // Asked after the fact: what is missing was missing before, or is counted now.
        if lost && self.info().await?.gone != place.gone {
            return Ok(Since::Lost(LogDiscontinuity::Trimmed));
        }
        Ok(Since::Records(turn(&info, at, place.gone, records)))
    }

    /// See [`Link::inspect`](broker_core::driver::Link::inspect).
    pub(crate) async fn inspect(&self) -> Result<Inspection> {
        let reply = self.api("INFO", String::new(), NO_STREAM).await?.unwrap_or_default();
        // Without a stream no time is reported, and not by every server with one.
        let (clock, config) = (parse_rfc3339(&text(&reply["ts"])).ok(), &reply["config"]);
        let inspection = Inspection::new(clock, config["storage"].as_str().map(|storage| storage == "file"));
        let single = config["num_replicas"] == 1 && self.replicas() > 1;
        let what = || {
            let what =
                "the revocation log has one replica: while the server that has it is away nobody can revoke";
            let remedy =
                format!("give it {REPLICAS}: `nats stream edit {} --replicas {REPLICAS}`", self.stream);
            Warning::new(what, remedy)
        };
        Ok(inspection.with_warnings(single.then(what).into_iter().collect()))
    }

    /// How many servers should have the log.
    fn replicas(&self) -> usize {
        let servers = self.link.cluster.as_ref().map_or(1, Cluster::size);
        if servers >= REPLICAS { REPLICAS } else { 1 }
    }

    /// Records by their numbers; `None` for one that is gone.
    async fn fetch(&self, numbers: RangeInclusive<u64>) -> Result<Vec<Option<Record>>> {
        let one = |number| async move {
            let question = json!({ "seq": number }).to_string();
            let Some(reply) = self.api("MSG.GET", question, NO_RECORD).await? else { return Ok(None) };
            let (data, time) = (&reply["message"]["data"], text(&reply["message"]["time"]));
            let bytes = BASE64_STANDARD.decode(data.as_str().unwrap_or_default());
            let bytes = bytes.map_err(|_| self.link.connection.peer.not_this_protocol())?.into();
            Ok(Some(Record { bytes, time }))
        };
        iter(numbers).map(one).buffered(FETCHES).try_collect().await
    }

    /// The stream as it is now; made when it is missing.
    async fn info(&self) -> Result<Info> {
        let until = self.patience();
        loop {
            let failed = match self.api("INFO", String::new(), NO_STREAM).await {
                // In the middle of being made.
                Ok(Some(reply)) if text(&reply["created"]).starts_with("0001-") => {
                    self.error(Unavailable, "has not created it yet; see the log of the server")
                }
                Ok(Some(reply)) => match self.usable(&reply) {
                    Err(error) if error.kind() == Unavailable => error,
                    outcome => return outcome,
                },
                Ok(None) => {
                    self.link.log_created.store(true, Relaxed);
                    match self.create().await {
                        Err(error) if error.kind() != Unavailable || Instant::now() >= until => {
                            return Err(error);
                        }
                        _ => self.error(Unavailable, NO_LEADER),
                    }
                }
                Err(error) if error.kind() == Unavailable && !self.link.connection.is_over() => error,
                Err(error) => return Err(error),
            };
            if Instant::now() >= until {
                return Err(failed);
            }
            sleep(PAUSE).await;
        }
    }

    /// Until when a call waits for what only time helps with.
    fn patience(&self) -> Instant {
        Instant::now() + self.log.limit / 3
    }

    async fn create(&self) -> Result<()> {
        let max_age = nanos(self.log.retention);
        let (name, subjects) = (&self.stream, [&self.subject]);
        let with = async |replicas: usize, expected| {
            let config = json!({
                "name": name, "subjects": subjects, "storage": "file", "max_age": max_age, "num_replicas": replicas,
            });
            self.api("CREATE", config.to_string(), expected).await
        };
        // The servers of a cluster need not all have JetStream.
        let replicas = self.replicas();
        if replicas > 1 && with(replicas, NOT_SO_MANY).await?.is_some() {
            return Ok(());
        }
        with(1, IS_MADE).await.map(drop)
    }

    /// Whether the stream can be this log, whoever made it.
    fn usable(&self, reply: &Value) -> Result<Info> {
        let (config, state, cluster) = (&reply["config"], &reply["state"], &reply["cluster"]);
        if config["subjects"] != json!([self.subject]) {
            return Err(self.taken());
        }
        if (1..nanos(self.log.retention)).contains(&number(&config["max_age"])) {
            let why = format!("keeps records for less than {:?}; raise its `max_age`", self.log.retention);
            return Err(self.error(Misconfigured, why));
        }
        // Whoever answers for it then may know nothing.
        if cluster.is_object() && text(&cluster["leader"]).is_empty() {
            return Err(self.error(Unavailable, NO_LEADER));
        }
        let last = number(&state["last_seq"]);
        Ok(Info {
            created: text(&reply["created"]),
            // 0 in an empty stream, which is no number of a record.
            first: number(&state["first_seq"]).max(1),
            last,
            last_time: text(&state["last_ts"]),
            gone: last.saturating_sub(number(&state["messages"])),
        })
    }

    /// A question about the stream, and its answer: `None` if that is one of the errors `expected`.
    async fn api(&self, verb: &str, question: String, expected: &[u64]) -> Result<Option<Value>> {
        let answer = self.insist(format!("$JS.API.STREAM.{verb}.{}", self.stream), question.into()).await?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(self.error(Unsupported, "has JetStream turned off; enable it"));
        }
        self.read(&answer, expected)
    }

    /// Asks again and again, until one of the questions is answered. Only for what may be asked twice: while the servers
    /// of a cluster elect a leader, some questions are dropped without a word. The earlier ones stay asked, as an
    /// answer may just take long.
    async fn insist(&self, subject: String, question: Bytes) -> Result<Message> {
        let (mut asked, mut patience) = (FuturesUnordered::new(), AGAIN);
        loop {
            asked.push(self.link.ask(subject.clone(), question.clone()));
            if let Ok(Some(answer)) = timeout(patience, asked.next()).await {
                return answer;
            }
            patience *= 2;
        }
    }

    fn read(&self, answer: &Message, expected: &[u64]) -> Result<Option<Value>> {
        let reply: Value = serde_json::from_slice(&answer.payload)
            .map_err(|_| self.link.connection.peer.not_this_protocol())?;
        match reply.get("error").map(|error| number(&error["err_code"])) {
            None => Ok(Some(reply)),
            Some(code) if expected.contains(&code) => Ok(None),
            Some(code) => Err(self.refusal(code)),
        }
    }

    /// What an error's number means.
    fn refusal(&self, code: u64) -> Error {
        match code {
            10039 | 10076 | 10120 => {
                self.error(Unsupported, "has no JetStream for this account; enable it there")
            }
            10065 => self.taken(),
            10002 | 10023 | 10027 | 10028 | 10047 | 10077 => {
                self.error(Unavailable, "has no room for it; see the limits of its JetStream")
            }
            10008 => self.error(Unavailable, NO_LEADER),
            _ => self.error(Other, format!("answered with the JetStream error {code}")),
        }
    }

    /// There is another stream where this one should be.
    fn taken(&self) -> Error {
        let why =
            format!("has a stream for other subjects, or another one for `{}`; rename that", self.subject);
        self.error(Misconfigured, why)
    }

    fn error(&self, kind: ErrorKind, why: impl Display) -> Error {
        let why = format!("{why} (the revocation log is the stream `{}`)", self.stream);
        self.link.connection.peer.error(kind, why)
    }
}

/// Records as a page, the first of them after the number `before`.
fn turn(info: &Info, before: u64, gone: u64, records: Vec<Option<Record>>) -> LogPage {
    let end = before + records.len() as u64;
    let more = end < info.last;
    let (time, gone) = match records.last() {
        _ if !more => (&*info.last_time, info.gone),
        Some(Some(record)) => (&*record.time, gone),
        _ => ("", gone),
    };
    let cursor = LogCursor::new(format!("{}/{end}/{time}/{gone}", info.created));
    let records = records.into_iter().flatten().map(|record| record.bytes).collect();
    LogPage { records, cursor, more, broken: None, created: false }
}

/// The name as one of a stream, which may have neither dots nor most other signs: each becomes its bytes in hex.
fn stream_name(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        match char::from(byte) {
            plain if plain.is_ascii_alphanumeric() || plain == '-' => encoded.push(plain),
            _ => _ = write!(encoded, "_{byte:02X}"),
        }
    }
    encoded
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn nanos(time: Duration) -> u64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX).unsigned_abs()
}

/// What is in the log behind a place.
enum Since {
    Records(LogPage),
    /// The place is none any more.
    Lost(LogDiscontinuity),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_prefixes_never_share_a_stream() {
        for (name, stream) in [
            ("$revocations", "_24revocations"),
            ("shop.$revocations", "shop_2E_24revocations"),
            ("shop_2E.$revocations", "shop_5F2E_2E_24revocations"),
            ("é/\\x.$revocations", "_C3_A9_2F_5Cx_2E_24revocations"),
        ] {
            assert_eq!(stream_name(name), stream);
        }
    }
}
