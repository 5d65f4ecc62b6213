//! Any: a message of a client, of whatever type it is.

use std::fmt;

use broker_model::{Unreadable, Value, Wire};

/// A message that a client has sent: the name of its type, and JSON that was not yet read.
///
/// ```
/// # use broker_streams::{Any, Failure};
/// fn number(message: &Any) -> Result<f64, Failure> {
///     if message.is::<i64>() {
///         return Ok(message.read::<i64>()? as f64);
///     }
///     Ok(message.read()?)
/// }
/// ```
#[derive(Clone)]
pub struct Any {
    class_name: Box<str>,
    json: Box<str>,
}

impl Any {
    pub(super) fn new(class_name: &str, json: &str) -> Self {
        Self { class_name: class_name.into(), json: json.into() }
    }

    /// The name under which it has travelled.
    #[must_use]
    pub fn class_name(&self) -> &str {
        &self.class_name
    }

    /// The message as JSON.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Whether it has the name of that type.
    #[must_use]
    pub fn is<T: Wire>(&self) -> bool {
        T::accepts(&self.class_name)
    }

    /// Reads it as that type: a [`Wire`] type, or an enum of several ([`Choice`](crate::Choice)).
    ///
    /// # Errors
    /// [`Unreadable`], if it has another name or does not fit.
    pub fn read<T: Value>(&self) -> Result<T, Unreadable> {
        T::decode(&self.class_name, &self.json)
    }

    /// What it takes of a limit.
    pub(super) fn bytes(&self) -> usize {
        self.class_name.len() + self.json.len()
    }
}

/// Without what it says: that may be a secret of the client.
impl fmt::Debug for Any {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Any").field("class_name", &self.class_name).finish_non_exhaustive()
    }
}
