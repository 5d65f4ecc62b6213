//! Options: every limit and time of a broker, with the same meaning on every backend.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer};

use super::keys::KEYS;
use crate::{
    BrokerUrl, Error, ErrorKind, Raw, Result,
    channel::check_prefix,
    message::{codec::Codec, raw},
};

/// Limits and times of a [`Broker`](crate::Broker). The defaults suit a server on one network with its backend.
///
/// ```
/// use broker::Options;
///
/// let options = Options::default().with(|options| {
///     options.prefix = "shop".to_owned();
///     options.queue_capacity = 256;
/// });
/// assert_eq!(options.queue_capacity, 256);
/// ```
///
/// In a configuration file times are written as `"5s"` or `"250ms"`; in a URL the same keys are
/// query keys: `redis://localhost/?prefix=shop&heartbeat=2s`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// Keeps applications apart that share a backend: one segment of a channel name, put before every name
    /// as `prefix.name`. Empty (the default): names go out as they are.
    pub prefix: String,
    /// How many messages a channel keeps for its slowest subscriber here before that one loses the oldest.
    /// A subscription may hold 32 more that it has already taken. Default 1,024.
    pub queue_capacity: usize,
    /// How many bytes of payload a channel keeps for its slowest subscriber here, besides the limit in messages; the
    /// newest message is kept whatever its size. A typed local message is never encoded: it counts with the
    /// [`size_of`] its value, without what that points to. 0: no limit. Default 16 MiB, at most 1 GiB.
    pub queue_bytes: usize,
    /// How many bytes of global posts may wait to be sent; a post beyond that waits for room, at most
    /// `publish_timeout`. Default 16 MiB.
    pub outbox_bytes: usize,
    /// The longest payload, in bytes, the same for every backend. Default 512 KiB, at most 900,000.
    pub max_payload: usize,
    /// How often the receive path is probed by a post of the broker's own. Default 5 s.
    #[serde(deserialize_with = "duration")]
    pub heartbeat: Duration,
    /// How long the echo of that post may take before the link counts as lost. A dead link is detected within
    /// `heartbeat + heartbeat_timeout`. Default 5 s.
    #[serde(deserialize_with = "duration")]
    pub heartbeat_timeout: Duration,
    /// How often this node announces how much it has posted, so that others detect what is missing at the end: the
    /// longest time until a loss is reported that no later message shows. With more than 100 such digests a second in the
    /// cluster each node sends fewer. A node that posts nothing sends none, unless somebody
    /// has subscribed and asks. One that has posted, and is then silent for three intervals, and for 4 s at
    /// least, counts as killed. Default 5 s.
    #[serde(deserialize_with = "duration")]
    pub digest_interval: Duration,
    /// The limit for one attempt to open a link. Default 5 s.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    /// How long a subscribe waits for its confirmation, also while the backend is unavailable. Default 10 s.
    #[serde(deserialize_with = "duration")]
    pub subscribe_timeout: Duration,
    /// How long a batch of posts may take before the link counts as lost. Default 5 s.
    #[serde(deserialize_with = "duration")]
    pub publish_timeout: Duration,
    /// How long a channel stays subscribed at the backend after its last listener left, so that a page
    /// reload does not flap. Default 1 s.
    #[serde(deserialize_with = "duration")]
    pub unsubscribe_delay: Duration,
    /// How long [`Broker::drain`](crate::Broker::drain) waits for listeners and streams. Default 10 s.
    #[serde(deserialize_with = "duration")]
    pub drain_timeout: Duration,
    /// The first wait after a lost link; doubled each time up to `backoff_max`, and shortened at random by up to a half.
    /// Default 50 ms.
    #[serde(deserialize_with = "duration")]
    pub backoff_min: Duration,
    /// The longest wait between two attempts. Default 3 s.
    #[serde(deserialize_with = "duration")]
    pub backoff_max: Duration,
    /// How long a closing session's [hooks](crate::Session::on_close) may take, all together. Default 2 s.
    #[serde(deserialize_with = "duration")]
    pub close_timeout: Duration,
    /// How long a revocation is tried to be stored before the call fails. Default 10 s.
    #[serde(deserialize_with = "duration")]
    pub revoke_timeout: Duration,
    /// How long revocations are kept, by the backend and by every node: longer than the longest outage that you plan
    /// for. A node that was disconnected for longer may miss one. Default 24 h, at least 1 s, at most 30 days.
    #[serde(deserialize_with = "duration")]
    pub revocation_retention: Duration,
    /// How often the log is polled, with a jitter of a third. Default 45 s.
    #[serde(deserialize_with = "duration")]
    pub revocation_poll: Duration,
    /// How long this server keeps its identified sessions without having read the log; then it closes them,
    /// and opens no new ones until it can read the log again. Zero (the default): for ever. At least 1 s.
    #[serde(deserialize_with = "duration")]
    pub revocation_lease: Duration,
    /// By how much the clocks of two servers may differ. A revocation by another server
    /// also closes sessions that are dated up to this long after it, so that no session escapes within that difference. The
    /// price: a user who signs in here within that time, before the revocation arrives, has to sign in again. Default 1 s.
    #[serde(deserialize_with = "duration")]
    pub clock_skew: Duration,
    /// What happens to the identified sessions of the time before when the log has lost records. Default: they are closed.
    pub on_log_break: FailMode,
    /// What happens to identified sessions when this server was disconnected from a backend that keeps no log. Default:
    /// they are closed.
    pub on_unlogged_gap: FailMode,
    /// How typed messages are encoded. Every node reads every codec it was built with. Default JSON.
    pub codec: Codec,
    /// On which channels payloads of plain programs are read, and how: by how the names begin, without the prefix; the
    /// longest beginning counts. At most 64. In a URL `raw=json:orders.,bytes:sensors.`. Default: on none, so that they are
    /// malformed.
    pub raw: BTreeMap<String, Raw>,
    /// Revokes in the form of Serverpod's servers as well, and ends sessions for what they revoke, on the same Redis.
    /// [`session_for`](crate::Broker::session_for) then subscribes the user's channel. Serverpod keeps no log of revocations, so
    /// `on_unlogged_gap` is for every loss of the link. Needs an empty prefix. Default false.
    pub serverpod_revocations: bool,
}

/// What happens to identified sessions when it is uncertain whether they were revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FailMode {
    /// They are closed, and have to sign in again.
    #[default]
    Closed,
    /// They stay open. Revoked sessions may be among them.
    Open,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            queue_capacity: 1024,
            queue_bytes: 16 << 20,
            outbox_bytes: 16 << 20,
            max_payload: 512 << 10,
            heartbeat: Duration::from_secs(5),
            heartbeat_timeout: Duration::from_secs(5),
            digest_interval: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            subscribe_timeout: Duration::from_secs(10),
            publish_timeout: Duration::from_secs(5),
            unsubscribe_delay: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(3),
            close_timeout: Duration::from_secs(2),
            revoke_timeout: Duration::from_secs(10),
            revocation_retention: Duration::from_secs(24 * 3600),
            revocation_poll: Duration::from_secs(45),
            revocation_lease: Duration::ZERO,
            clock_skew: Duration::from_secs(1),
            on_log_break: FailMode::Closed,
            on_unlogged_gap: FailMode::Closed,
            codec: Codec::Json,
            raw: BTreeMap::new(),
            serverpod_revocations: false,
        }
    }
}

/// The largest capacity of a queue.
pub(crate) const MOST_CAPACITY: usize = 1 << 24;

/// The longest `max_payload`: leaves room in a frame for the head and the headers.
const MOST_PAYLOAD: usize = 900_000;

impl Options {
    /// The same, changed: for options in one expression.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The keys that [`with_url`](Self::with_url) reads, for error messages and help texts.
    pub const URL_KEYS: &'static [&'static str] = KEYS;

    /// These options with the keys of a URL's query on top.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] naming the key whose value does not fit.
    pub fn with_url(mut self, url: &BrokerUrl) -> Result<Self> {
        for (key, value) in url.query() {
            let value = value.as_str();
            match key.as_str() {
                "prefix" => value.clone_into(&mut self.prefix),
                "queue_capacity" => self.queue_capacity = number(key, value)?,
                "queue_bytes" => self.queue_bytes = number(key, value)?,
                "outbox_bytes" => self.outbox_bytes = number(key, value)?,
                "max_payload" => self.max_payload = number(key, value)?,
                "heartbeat" => self.heartbeat = time(key, value)?,
                "heartbeat_timeout" => self.heartbeat_timeout = time(key, value)?,
                "digest_interval" => self.digest_interval = time(key, value)?,
                "connect_timeout" => self.connect_timeout = time(key, value)?,
                "subscribe_timeout" => self.subscribe_timeout = time(key, value)?,
                "publish_timeout" => self.publish_timeout = time(key, value)?,
                "unsubscribe_delay" => self.unsubscribe_delay = time(key, value)?,
                "drain_timeout" => self.drain_timeout = time(key, value)?,
                "backoff_min" => self.backoff_min = time(key, value)?,
                "backoff_max" => self.backoff_max = time(key, value)?,
                "close_timeout" => self.close_timeout = time(key, value)?,
                "revoke_timeout" => self.revoke_timeout = time(key, value)?,
                "revocation_retention" => self.revocation_retention = time(key, value)?,
                "revocation_poll" => self.revocation_poll = time(key, value)?,
                "revocation_lease" => self.revocation_lease = time(key, value)?,
                "clock_skew" => self.clock_skew = time(key, value)?,
                "on_log_break" => self.on_log_break = fail_mode(key, value)?,
                "on_unlogged_gap" => self.on_unlogged_gap = fail_mode(key, value)?,
                "codec" => self.codec = Codec::from_name(value)?,
                "raw" => self.raw = raw::forms(value)?,
                "serverpod_revocations" => {
                    self.serverpod_revocations =
                        value.parse().map_err(|_| invalid(key, value, "true or false"))?;
                }
                _ => {} // the driver's
            }
        }
        Ok(self)
    }

    /// Checks the options against each other.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] naming the option and its bounds.
    pub fn check(&self) -> Result<()> {
        check_prefix(&self.prefix)?;
        within("queue_capacity", self.queue_capacity, 1, MOST_CAPACITY)?;
        within("queue_bytes", self.queue_bytes, 0, 1 << 30)?;
        within("max_payload", self.max_payload, 1, MOST_PAYLOAD)?;
        within("outbox_bytes", self.outbox_bytes, crate::driver::MAX_FRAME, 1 << 30)?;
        for (name, time) in [
            ("heartbeat", self.heartbeat),
            ("heartbeat_timeout", self.heartbeat_timeout),
            ("digest_interval", self.digest_interval),
            ("connect_timeout", self.connect_timeout),
            ("subscribe_timeout", self.subscribe_timeout),
            ("publish_timeout", self.publish_timeout),
            ("backoff_min", self.backoff_min),
            ("close_timeout", self.close_timeout),
            ("revoke_timeout", self.revoke_timeout),
            ("revocation_poll", self.revocation_poll),
        ] {
            if time < Duration::from_millis(1) || time > Duration::from_secs(86_400) {
                return Err(invalid(name, &written(time), "a time between 1ms and 24h"));
            }
        }
        for (name, time) in [
            ("unsubscribe_delay", self.unsubscribe_delay),
            ("drain_timeout", self.drain_timeout),
            ("backoff_max", self.backoff_max),
            ("revocation_lease", self.revocation_lease),
            ("clock_skew", self.clock_skew),
        ] {
            if time > Duration::from_secs(86_400) {
                return Err(invalid(name, &written(time), "at most 24h"));
            }
        }
        let (lease, retention) = (self.revocation_lease, self.revocation_retention);
        if !lease.is_zero() && lease < Duration::from_secs(1) {
            return Err(invalid("revocation_lease", &written(lease), "0s, for none, or at least 1s"));
        }
        if retention < Duration::from_secs(1) || retention > Duration::from_secs(30 * 86_400) {
            return Err(invalid("revocation_retention", &written(retention), "between 1s and 30 days"));
        }
        if self.codec == Codec::Raw || !self.codec.is_available() {
            return Err(invalid(
                "codec",
                &format!("{:?}", self.codec),
                "json, or msgpack with the feature `msgpack`",
            ));
        }
        self.check_interop()?;
        if self.backoff_max < self.backoff_min {
            return Err(invalid("backoff_max", &written(self.backoff_max), "at least backoff_min"));
        }
        Ok(())
    }
}

pub(super) fn within(name: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(invalid(name, &value.to_string(), &format!("between {least} and {most}")))
}

fn number(key: &str, value: &str) -> Result<usize> {
    value.parse().map_err(|_| invalid(key, value, "a whole number"))
}

fn time(key: &str, value: &str) -> Result<Duration> {
    humantime::parse_duration(value).map_err(|_| invalid(key, value, "a time such as 5s or 250ms"))
}

/// A time as an option is written: `0s`, not `0ns`.
fn written(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn fail_mode(key: &str, value: &str) -> Result<FailMode> {
    match value {
        "closed" => Ok(FailMode::Closed),
        "open" => Ok(FailMode::Open),
        _ => Err(invalid(key, value, "closed or open")),
    }
}

pub(super) fn invalid(key: &str, value: &str, wanted: &str) -> Error {
    let value = crate::channel::shown(value);
    Error::new(ErrorKind::InvalidInput, format!("option {key} = {value}: must be {wanted}"))
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(|_| {
        serde::de::Error::custom(format!("`{text}` is not a time; write it as \"5s\" or \"250ms\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_legal() {
        Options::default().check().unwrap();
    }

    #[test]
    fn a_url_sets_options_and_a_bad_value_is_named() {
        let url =
            BrokerUrl::parse("memory:?prefix=shop&heartbeat=250ms&queue_capacity=7&codec=json").unwrap();
        let options = Options::default().with_url(&url).unwrap();
        assert_eq!(options.prefix, "shop");
        assert_eq!(options.heartbeat, Duration::from_millis(250));
        assert_eq!(options.queue_capacity, 7);

        let url = BrokerUrl::parse("memory:?heartbeat=soon").unwrap();
        let error = Options::default().with_url(&url).unwrap_err();
        assert!(error.to_string().contains("heartbeat = `soon`"), "{error}");
    }

    #[test]
    fn every_url_key_is_read_and_every_option_has_a_key() {
        for key in Options::URL_KEYS {
            let value = match *key {
                "prefix" => "other",
                "codec" => "none-such",
                "raw" => "json:orders.",
                "on_log_break" | "on_unlogged_gap" => "open",
                "queue_capacity" | "queue_bytes" | "outbox_bytes" | "max_payload" => "777",
                _ => "777ms",
            };
            let url = BrokerUrl::parse(&format!("memory:?{key}={value}")).unwrap();
            let read = Options::default().with_url(&url);
            assert!(read.is_err() || read.unwrap() != Options::default(), "{key} is not read");
        }
    }

    #[test]
    fn options_out_of_bounds_are_named() {
        for change in [
            (|o: &mut Options| o.queue_capacity = 0) as fn(&mut Options),
            |o| o.queue_bytes = usize::MAX,
            |o| o.max_payload = 1_000_000,
            |o| o.outbox_bytes = 10,
            |o| o.heartbeat = Duration::ZERO,
            |o| o.backoff_max = Duration::ZERO,
            |o| o.unsubscribe_delay = Duration::MAX,
            |o| o.drain_timeout = Duration::MAX,
            |o| o.backoff_max = Duration::MAX,
            |o| o.revocation_lease = Duration::from_millis(1),
            |o| o.revocation_retention = Duration::ZERO,
            |o| o.clock_skew = Duration::MAX,
            |o| o.prefix = "a.b".to_owned(),
            |o| *o = o.clone().accept_raw("$node.", Raw::Json),
            |o| *o = o.clone().accept_raw("n".repeat(201), Raw::Json),
            |o| (o.prefix, o.serverpod_revocations) = ("shop".to_owned(), true),
        ] {
            let mut options = Options::default();
            change(&mut options);
            assert_eq!(options.check().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}
