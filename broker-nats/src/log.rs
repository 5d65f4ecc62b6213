//! Log: the revocation log, which is a stream of JetStream. It is read record by record, and no consumer ever exists.

use std::{
    fmt::{Display, Write},
    ops::RangeInclusive,
    time::Duration,
};

use async_nats::{Message, StatusCode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use broker_core::{
    Error,
    ErrorKind::{self, Misconfigured, Other, Timeout, Unavailable, Unsupported},
    Result,
    driver::{LogBreak, LogCursor, LogPage, RevocationLog},
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream::iter};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::link::NatsLink;

/// How many records a page holds. The longest ones still come through a slow network within the limit.
const PAGE: u64 = 256;
/// How many of them are asked for at once. Where all are refused there is still room for other complaints.
const FETCHES: usize = 28;
/// How often the stream is looked at until it is there.
const ROUNDS: usize = 10;
/// For how long the server looks for duplicates, which there are none of. Must not be longer than a record is kept.
const DUPLICATES: Duration = Duration::from_secs(120);

const NO_LEADER: &str = "has no leader for it at the moment";

const NO_RECORD: u64 = 10037;
const NAME_TAKEN: u64 = 10058;
const NO_STREAM: u64 = 10059;

/// One log, as seen through a link.
pub(crate) struct Log<'a> {
    link: &'a NatsLink,
    log: &'a RevocationLog,
    stream: String,
    subject: String,
}

/// What the server tells about the stream.
#[derive(Deserialize)]
struct Info {
    /// Another one after it was deleted. Only ever compared, like all times here.
    created: String,
    config: Config,
    state: State,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    subjects: Vec<String>,
    /// In nanoseconds; 0 is for ever.
    #[serde(default)]
    max_age: u64,
}

#[derive(Deserialize)]
struct State {
    messages: u64,
    first_seq: u64,
    last_seq: u64,
    /// The time of the last record, also when that is not kept any more.
    last_ts: String,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(default)]
    leader: String,
}

#[derive(Deserialize)]
struct Stored {
    message: Record,
}

#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    data: String,
    time: String,
}

/// What the server answers to a record.
#[derive(Deserialize)]
struct Receipt {
    stream: String,
}

/// A place in the log, as a cursor writes it.
struct Place {
    created: String,
    sequence: u64,
    /// The time of the record there. Numbers are used again after the log was rolled back.
    time: String,
    /// How many records were gone by the time from which on a missing one is a loss.
    gone: u64,
}

impl Place {
    fn parse(place: &str) -> Option<Self> {
        let mut parts = place.split('/');
        let mut next = || parts.next().map(str::to_owned);
        let (created, sequence, time, gone) = (next()?, next()?, next()?, next()?);
        Some(Self { created, sequence: sequence.parse().ok()?, time, gone: gone.parse().ok()? })
    }
}

impl Info {
    /// The number of the oldest record. An empty stream has 0 there, which is no number.
    fn first(&self) -> u64 {
        self.state.first_seq.max(1)
    }

    /// How many of the records that ever were are gone, for whatever reason.
    fn gone(&self) -> u64 {
        self.state.last_seq.saturating_sub(self.state.messages)
    }
}

impl<'a> Log<'a> {
    pub(crate) fn new(link: &'a NatsLink, log: &'a RevocationLog) -> Self {
        Self { link, log, stream: stream_name(log.name.as_str()), subject: format!("{}.log", log.name) }
    }

    /// See [`Link::revoke`](broker_core::driver::Link::revoke).
    pub(crate) async fn append(&self, record: Bytes) -> Result<()> {
        // Without a stream there may be no answer: somebody else may listen there.
        self.within(async {
            self.info().await?;
            let answer = self.link.ask(self.subject.clone(), record).await?;
            if answer.status == Some(StatusCode::NO_RESPONDERS) {
                return Err(self.error(Unavailable, NO_LEADER));
            }
            let receipt: Receipt = self.read(&answer)?.map_err(|code| self.refusal(code))?;
            if receipt.stream == self.stream { Ok(()) } else { Err(self.taken()) }
        })
        .await
    }

    /// See [`Link::revocations`](broker_core::driver::Link::revocations).
    pub(crate) async fn page(&self, after: &LogCursor) -> Result<LogPage> {
        self.within(async {
            let broken = match after.place().map(Place::parse) {
                None => None,
                Some(None) => Some(LogBreak::Replaced),
                Some(Some(place)) => match self.after(&place).await? {
                    Ok(page) => return Ok(page),
                    Err(broken) => Some(broken),
                },
            };
            // All of it, as it is now.
            let info = self.info().await?;
            let before = info.first() - 1;
            let records = self.fetch(info.first()..=info.state.last_seq.min(before + PAGE)).await?;
            let page = self.turn(&info, before, info.gone(), records)?;
            Ok(LogPage { broken, ..page })
        })
        .await
    }

    /// The records after a place, or why that is none any more.
    async fn after(&self, place: &Place) -> Result<Result<LogPage, LogBreak>> {
        let info = self.info().await?;
        let (at, last) = (place.sequence, info.state.last_seq);
        if place.created != info.created {
            return Ok(Err(LogBreak::Replaced));
        }
        if at > last || (at == last && place.time != info.state.last_ts) {
            return Ok(Err(LogBreak::RolledBack));
        }
        if at + 1 < info.first() {
            return Ok(Err(LogBreak::Trimmed));
        }
        // The record at the place is read once more, as long as it is kept: it must be the one that was there.
        let again = at >= info.first() && at < last;
        let from = if again { at } else { at + 1 };
        let mut records = self.fetch(from..=last.min(at.saturating_add(PAGE))).await?;
        let lost = records.iter().any(Option::is_none);
        if again && records.remove(0).is_some_and(|record| record.time != place.time) {
            return Ok(Err(LogBreak::RolledBack));
        }
        // Asked after the fact: what is missing was missing before, or is counted now.
        if lost && self.info().await?.gone() != place.gone {
            return Ok(Err(LogBreak::Trimmed));
        }
        self.turn(&info, at, place.gone, records).map(Ok)
    }

    /// Records as a page, the first of them after the number `before`.
    fn turn(&self, info: &Info, before: u64, gone: u64, records: Vec<Option<Record>>) -> Result<LogPage> {
        let end = before + records.len() as u64;
        let more = end < info.state.last_seq;
        let (time, gone) = match records.last() {
            _ if !more => (&*info.state.last_ts, info.gone()),
            Some(Some(record)) => (&*record.time, gone),
            _ => ("", gone),
        };
        let cursor = LogCursor::new(format!("{}/{end}/{time}/{gone}", info.created));
        let decode = |record: Record| BASE64_STANDARD.decode(record.data).map(Bytes::from);
        let records = records.into_iter().flatten().map(decode).collect::<Result<_, _>>();
        let records = records.map_err(|_| self.link.peer().foreign())?;
        Ok(LogPage { records, cursor, more, broken: None })
    }

    /// Records by their numbers; `None` for one that is gone.
    async fn fetch(&self, numbers: RangeInclusive<u64>) -> Result<Vec<Option<Record>>> {
        let one = |number| async move {
            match self.api::<Stored>("MSG.GET", &json!({ "seq": number })).await? {
                Ok(Stored { message }) => Ok(Some(message)),
                Err(NO_RECORD) => Ok(None),
                Err(code) => Err(self.refusal(code)),
            }
        };
        iter(numbers).map(one).buffered(FETCHES).try_collect().await
    }

    /// The stream as it is now; made when it is missing.
    async fn info(&self) -> Result<Info> {
        for _ in 0..ROUNDS {
            match self.api::<Info>("INFO", &Value::Null).await? {
                // In the middle of being made.
                Ok(info) if info.created.starts_with("0001-") => {}
                Ok(info) => return self.usable(info),
                Err(NO_STREAM) => self.create().await?,
                Err(code) => return Err(self.refusal(code)),
            }
        }
        Err(self.error(Unavailable, "is still making it"))
    }

    /// Whoever makes it at the same moment makes the same; one that is there with other settings is looked at.
    async fn create(&self) -> Result<()> {
        let config = json!({
            "name": self.stream,
            "subjects": [self.subject],
            "storage": "file",
            "max_age": nanos(self.log.retention),
            "duplicate_window": nanos(self.log.retention.min(DUPLICATES)),
        });
        match self.api::<Value>("CREATE", &config).await? {
            Ok(_) | Err(NAME_TAKEN) => Ok(()),
            Err(code) => Err(self.refusal(code)),
        }
    }

    /// Whether the stream can be this log, whoever made it.
    fn usable(&self, info: Info) -> Result<Info> {
        let Config { subjects, max_age } = &info.config;
        if *subjects != [&*self.subject] {
            return Err(self.taken());
        }
        if (1..nanos(self.log.retention)).contains(max_age) {
            let why = format!("keeps records for less than {:?}; raise its `max_age`", self.log.retention);
            return Err(self.error(Misconfigured, why));
        }
        // Whoever answers for it then may know nothing.
        if info.cluster.as_ref().is_some_and(|cluster| cluster.leader.is_empty()) {
            return Err(self.error(Unavailable, NO_LEADER));
        }
        Ok(info)
    }

    /// A question about the stream, and its answer: or the number of an error.
    async fn api<T: DeserializeOwned>(&self, verb: &str, question: &Value) -> Result<Result<T, u64>> {
        let subject = format!("$JS.API.STREAM.{verb}.{}", self.stream);
        let question = if question.is_null() { String::new() } else { question.to_string() };
        let answer = self.link.ask(subject, question.into()).await?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(self.error(Unsupported, "has JetStream off; switch it on"));
        }
        self.read(&answer)
    }

    fn read<T: DeserializeOwned>(&self, answer: &Message) -> Result<Result<T, u64>> {
        let foreign = |_| self.link.peer().foreign();
        let answer: Value = serde_json::from_slice(&answer.payload).map_err(foreign)?;
        match answer.get("error") {
            Some(error) => Ok(Err(error["err_code"].as_u64().unwrap_or_default())),
            None => serde_json::from_value(answer).map(Ok).map_err(foreign),
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
        self.link.peer().error(kind, why)
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.log.limit;
        let late = |_| self.error(Timeout, format!("did not answer within {limit:?}"));
        timeout(limit, call).await.map_err(late).flatten()
    }
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

fn nanos(time: Duration) -> u64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_never_become_one_stream() {
        for (name, stream) in [
            ("$revocations", "_24revocations"),
            ("shop.$revocations", "shop_2E_24revocations"),
            ("shop_2E.$revocations", "shop_5F2E_2E_24revocations"),
            ("é/\\x.$revocations", "_C3_A9_2F_5Cx_2E_24revocations"),
        ] {
            assert_eq!(stream_name(name), stream);
        }
    }

    #[test]
    fn only_text_with_every_part_is_a_place() {
        let place = Place::parse("2026-01-01T00:00:00.5Z/7/2026-01-02T00:00:00Z/3").unwrap();
        assert_eq!((&*place.created, place.sequence), ("2026-01-01T00:00:00.5Z", 7));
        assert_eq!((&*place.time, place.gone), ("2026-01-02T00:00:00Z", 3));
        for text in ["", "/", "///", "a/b/c/d", "a/-1/c/0", "a/1/c", "a/18446744073709551616/c/0"] {
            assert!(Place::parse(text).is_none(), "{text}");
        }
    }
}
