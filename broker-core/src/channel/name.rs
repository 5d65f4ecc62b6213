//! ChannelName: the type, apart from the rules, whose errors hold one.

use std::{fmt, sync::Arc};

/// The name of a channel, checked.
///
/// 1 to [`ChannelName::MAX`] bytes of UTF-8; no white space and no control character; none of `*`, `>`, `#`;
/// no empty segment between dots; no segment that begins with `$`, which is reserved for the broker itself, whatever
/// prefix stands before it. What one backend would refuse, all refuse. Cloning is cheap.
///
/// ```
/// use broker::ChannelName;
///
/// let name = ChannelName::new("user.42.updates")?;
/// assert_eq!(name.as_str(), "user.42.updates");
/// assert!(ChannelName::new("orders.>").is_err());
/// # Ok::<(), broker::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// The longest name, in bytes.
    pub const MAX: usize = 200;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name of the broker's own (`$…`), or one with a prefix: not held to the rules for users.
    pub(crate) fn internal(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl AsRef<str> for ChannelName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}
