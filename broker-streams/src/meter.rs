//! Meter: what an operator counts, through the crate `metrics`. Without the feature of that name all of it is nothing.
//!
//! No label carries what a client has sent: there is no end of that. Endpoints and methods are those that are registered.

/// The counters of one server. They belong to the recorder that is installed when the server is built.
#[derive(Clone)]
pub(crate) struct Meter {
    #[cfg(feature = "metrics")]
    counters: std::sync::Arc<on::Counters>,
}

/// The open calls of one method.
pub(crate) struct Calls {
    #[cfg(feature = "metrics")]
    gauge: metrics::Gauge,
}

/// Something that is counted for as long as this lives.
#[must_use = "it is counted for as long as this lives"]
pub(crate) struct Held {
    #[cfg(feature = "metrics")]
    gauge: metrics::Gauge,
}

#[cfg(feature = "metrics")]
mod on {
    use std::time::Duration;

    use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

    use super::{Calls, Held, Meter};

    /// What clients are told of an open, and why nothing was tried.
    const OPENS: [&str; 7] = [
        "success",
        "endpointNotFound",
        "authenticationFailed",
        "authorizationDeclined",
        "invalidArguments",
        "overloaded",
        "draining",
    ];
    /// The types of frames. The most frequent one comes first.
    const TYPES: [&str; 17] = [
        "msm", "flow", "omsc", "omsr", "cmsc", "msse", "brm", "ping", "pong", "gap", "auth", "authr", "rsm",
        "rsr", "bye", "message", "command",
    ];
    /// Why calls end.
    const ENDS: [&str; 13] = [
        "done",
        "fault",
        "cancelled",
        "lost",
        "revoked",
        "expired",
        "doubt",
        "identity",
        "deadline",
        "limit",
        "internal",
        "overloaded",
        "draining",
    ];
    /// How calls are resumed.
    const RESUMES: [&str; 3] = ["exact", "refused", "cursor"];

    /// Counters by words.
    struct By<const N: usize>([(&'static str, Counter); N]);

    impl<const N: usize> By<N> {
        fn new(words: [&'static str; N], make: impl Fn(&'static str) -> Counter) -> Self {
            Self(words.map(|word| (word, make(word))))
        }

        /// A word that is none of these is not counted.
        fn add(&self, word: &str) {
            if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == word) {
                counter.increment(1);
            }
        }
    }

    pub(super) struct Counters {
        sockets: Gauge,
        parked: Gauge,
        opens: By<{ OPENS.len() }>,
        read: By<{ TYPES.len() }>,
        written: By<{ TYPES.len() }>,
        bytes_read: Counter,
        bytes_written: Counter,
        closed: By<{ ENDS.len() }>,
        gaps: Counter,
        resumes: By<{ RESUMES.len() }>,
        bad_frames: Counter,
        window_wait: Histogram,
    }

    impl Meter {
        pub(crate) fn new() -> Self {
            let frames = |dir| {
                By::new(
                    TYPES,
                    move |word| counter!("broker_streams_frames_total", "dir" => dir, "type" => word),
                )
            };
            let counters = Counters {
                sockets: gauge!("broker_streams_sockets"),
                parked: gauge!("broker_streams_parked"),
                opens: By::new(OPENS, |word| counter!("broker_streams_opens_total", "res" => word)),
                read: frames("in"),
                written: frames("out"),
                bytes_read: counter!("broker_streams_bytes_total", "dir" => "in"),
                bytes_written: counter!("broker_streams_bytes_total", "dir" => "out"),
                closed: By::new(ENDS, |word| counter!("broker_streams_closed_total", "why" => word)),
                gaps: counter!("broker_streams_gaps_total"),
                resumes: By::new(RESUMES, |word| counter!("broker_streams_resumes_total", "kind" => word)),
                bad_frames: counter!("broker_streams_bad_frames_total"),
                window_wait: histogram!("broker_streams_window_wait_seconds"),
            };
            Self { counters: counters.into() }
        }

        /// A socket is open.
        pub(crate) fn socket(&self) -> Held {
            Held::new(&self.counters.sockets)
        }

        /// A call is parked.
        pub(crate) fn park(&self) -> Held {
            Held::new(&self.counters.parked)
        }

        /// For the open calls of a method.
        #[expect(clippy::unused_self, reason = "as without the feature")]
        pub(crate) fn calls(&self, endpoint: &str, method: &str) -> Calls {
            let (endpoint, method) = (endpoint.to_owned(), method.to_owned());
            Calls { gauge: gauge!("broker_streams_calls", "endpoint" => endpoint, "method" => method) }
        }

        /// An open was answered with that.
        pub(crate) fn opened(&self, result: &str) {
            self.counters.opens.add(result);
        }

        /// A text has arrived.
        pub(crate) fn read(&self, length: usize) {
            self.counters.bytes_read.increment(length as u64);
        }

        /// It is a frame of that type.
        pub(crate) fn read_type(&self, kind: &str) {
            self.counters.read.add(kind);
        }

        /// A frame is written. Its type is read from how all frames of this server begin.
        pub(crate) fn written(&self, frame: &str) {
            self.counters.bytes_written.increment(frame.len() as u64);
            let kind = match frame.strip_prefix(r#"{"type":""#) {
                Some(rest) => rest.split('"').next().unwrap_or_default(),
                None if frame.starts_with(r#"{"command""#) => "command",
                None => "message",
            };
            self.counters.written.add(kind);
        }

        /// A call has ended.
        pub(crate) fn closed(&self, why: &str) {
            self.counters.closed.add(why);
        }

        /// A client was told of a gap.
        pub(crate) fn gap(&self) {
            self.counters.gaps.increment(1);
        }

        /// A client would go on with a call.
        pub(crate) fn resumed(&self, kind: &str) {
            self.counters.resumes.add(kind);
        }

        /// A text was no frame.
        pub(crate) fn bad_frame(&self) {
            self.counters.bad_frames.increment(1);
        }

        /// A method that sends has waited for its client.
        pub(crate) fn window_wait(&self, time: Duration) {
            self.counters.window_wait.record(time);
        }
    }

    impl Calls {
        /// A call is open.
        pub(crate) fn hold(&self) -> Held {
            Held::new(&self.gauge)
        }
    }

    impl Held {
        fn new(gauge: &Gauge) -> Self {
            gauge.increment(1.0);
            Self { gauge: gauge.clone() }
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            self.gauge.decrement(1.0);
        }
    }
}

#[cfg(not(feature = "metrics"))]
#[expect(clippy::unused_self, reason = "the same calls, and nothing happens")]
mod off {
    use super::{Calls, Held, Meter};

    impl Meter {
        pub(crate) fn new() -> Self {
            Self {}
        }

        pub(crate) fn socket(&self) -> Held {
            Held {}
        }

        pub(crate) fn park(&self) -> Held {
            Held {}
        }

        pub(crate) fn calls(&self, _endpoint: &str, _method: &str) -> Calls {
            Calls {}
        }

        pub(crate) fn opened(&self, _result: &str) {}

        pub(crate) fn read(&self, _length: usize) {}

        pub(crate) fn read_type(&self, _kind: &str) {}

        pub(crate) fn written(&self, _frame: &str) {}

        pub(crate) fn closed(&self, _why: &str) {}

        pub(crate) fn gap(&self) {}

        pub(crate) fn resumed(&self, _kind: &str) {}

        pub(crate) fn bad_frame(&self) {}

        pub(crate) fn window_wait(&self, _time: std::time::Duration) {}
    }

    impl Calls {
        pub(crate) fn hold(&self) -> Held {
            Held {}
        }
    }
}
