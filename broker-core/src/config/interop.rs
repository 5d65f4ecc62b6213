//! The options for programs that are no nodes, and their bounds.

use super::options::{Options, invalid, within};
use crate::{ChannelName, Raw, Result};

/// How many beginnings of names may be declared raw.
const MOST_RAW: usize = 64;

impl Options {
    /// The same, reading payloads of plain programs on the channels whose names begin so: posts that are no frames, such as
    /// those of `redis-cli PUBLISH`. They have no numbers, so a loss of one is not detected.
    /// [`Broker::post_raw`](crate::Broker::post_raw) posts to them.
    ///
    /// ```
    /// use broker::{Options, Raw};
    ///
    /// let options = Options::default().accept_raw("orders.", Raw::Json).accept_raw("sensors.", Raw::Bytes);
    /// assert_eq!(options.raw["orders."], Raw::Json);
    /// ```
    #[must_use]
    pub fn accept_raw(mut self, start: impl Into<String>, form: Raw) -> Self {
        self.raw.insert(start.into(), form);
        self
    }

    /// What is for programs that are no nodes.
    pub(super) fn check_interop(&self) -> Result<()> {
        within("raw", self.raw.len(), 0, MOST_RAW)?;
        let broken = |start: &&String| start.starts_with('$') || start.len() > ChannelName::MAX;
        if let Some(start) = self.raw.keys().find(broken) {
            return Err(invalid("raw", start, "how names begin: at most 200 bytes, and no `$` at the front"));
        }
        if self.serverpod_revocations && !self.prefix.is_empty() {
            return Err(invalid(
                "serverpod_revocations",
                "true",
                "false where there is a prefix: Serverpod's channels have none",
            ));
        }
        Ok(())
    }
}
