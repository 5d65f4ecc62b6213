//! Limits: what one client may make the server keep or wait for.

use std::time::Duration;

/// What one client may make the server keep or wait for. Change single ones and keep the rest:
///
/// ```
/// use broker_streams::Limits;
///
/// let mut limits = Limits::default();
/// limits.calls_per_socket = 64;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Sockets of this server. One more is refused with 503. Default 50,000.
    pub sockets: usize,
    /// The time to the first frame of a socket; then it is closed with 1008. Default 10 s.
    pub first_frame: Duration,
    /// The longest frame that is read, in bytes; a longer one closes the socket with 1009. Default 1 MiB.
    pub frame_bytes: usize,
    /// Open calls of a socket. One more is opened and closed at once. Default 256.
    pub calls_per_socket: usize,
    /// Calls of a socket that are being opened. While there are so many, the socket is not read. Default 32.
    pub opens: usize,
    /// The time that an authenticator has; then the open fails. Default 10 s.
    pub authenticate: Duration,
    /// Inputs that a client names in one open. Default 16.
    pub inputs_per_call: usize,
    /// Frames of an input that may be under way or wait for the method, and of a method's stream where the client says
    /// how many it has consumed. Default 64.
    pub window: u32,
    /// Bytes of values of one stream that may be under way or wait. Default 256 KiB.
    pub window_bytes: usize,
    /// How long a socket is not read, since an input of a client without `x1` is full; then that call is closed.
    /// Default 2 s.
    pub hold: Duration,
    /// Bytes that wait to be written to a socket; while there are so many, its calls wait when they send. Default 64 KiB.
    pub unwritten_bytes: usize,
    /// How long a socket may take not a byte of what is to be written; then it is cut. Default 30 s.
    pub stall: Duration,
    /// The time between two pings of the WebSocket protocol. Default 30 s.
    pub ping: Duration,
    /// A socket from which nothing arrives for that long is cut. Default 70 s.
    pub silence: Duration,
    /// How long a call whose socket was lost waits for its client, if it can be resumed; 0: not at all. Default 30 s.
    pub park: Duration,
    /// Calls that wait so; one more ends with its socket. Default 10,000.
    pub parked_calls: usize,
    /// Bytes that these keep for their clients, counted when they are parked; a method with `on_task` may add what its window
    /// has room for. Default 64 MiB.
    pub parked_bytes: usize,
    /// The longest life of a call; then it ends for `deadline`. Default: none.
    pub call_life: Option<Duration>,
    /// The longest time in which a call sends and receives nothing; then it ends for `deadline`. A client that says what it has
    /// consumed sends something. Default: none.
    pub call_idle: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sockets: 50_000,
            first_frame: Duration::from_secs(10),
            frame_bytes: 1 << 20,
            calls_per_socket: 256,
            opens: 32,
            authenticate: Duration::from_secs(10),
            inputs_per_call: 16,
            window: 64,
            window_bytes: 256 << 10,
            hold: Duration::from_secs(2),
            unwritten_bytes: 64 << 10,
            stall: Duration::from_secs(30),
            ping: Duration::from_secs(30),
            silence: Duration::from_secs(70),
            park: Duration::from_secs(30),
            parked_calls: 10_000,
            parked_bytes: 64 << 20,
            call_life: None,
            call_idle: None,
        }
    }
}

/// A time that can be added to any moment. What is longer is as good as none.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

impl Limits {
    /// The same with times that can be added to any moment.
    pub(crate) fn bounded(mut self) -> Self {
        let times =
            [&mut self.first_frame, &mut self.hold, &mut self.stall, &mut self.ping, &mut self.silence];
        for time in times {
            *time = (*time).min(LONGEST);
        }
        self
    }

    /// The name of the first limit with which no call could work, and the least value it may have.
    pub(crate) fn wrong(&self) -> Option<(&'static str, &'static str)> {
        let least = [
            ("sockets", self.sockets < 1, "1"),
            ("frame_bytes", self.frame_bytes < 256, "256"),
            ("calls_per_socket", self.calls_per_socket < 1, "1"),
            ("opens", self.opens < 1, "1"),
            ("window", self.window < 1, "1"),
            ("window_bytes", self.window_bytes < 1, "1"),
            ("unwritten_bytes", self.unwritten_bytes < 1, "1"),
        ];
        let times = [
            ("first_frame", self.first_frame.is_zero(), "a millisecond"),
            ("authenticate", self.authenticate.is_zero(), "a millisecond"),
            ("stall", self.stall.is_zero(), "a millisecond"),
            ("ping", self.ping.is_zero(), "a millisecond"),
            ("silence", self.silence.is_zero(), "a millisecond"),
            ("call_life", self.call_life.is_some_and(|time| time.is_zero()), "a millisecond"),
            ("call_idle", self.call_idle.is_some_and(|time| time.is_zero()), "a millisecond"),
        ];
        let all = least.into_iter().chain(times);
        all.into_iter().find_map(|(name, wrong, least)| wrong.then_some((name, least)))
    }
}
