//! Fault: an error that travels to the client as what it is.

use std::{borrow::Cow, error::Error};

use crate::Unreadable;

/// An error that a client receives as what it is: it has a name on the wire, and serde writes its data.
///
/// Usually derived. A struct travels under its own name, or the one given by `#[fault(name = "…")]`; of an enum each
/// variant does. An error that is no fault reaches the client as a failure without a text.
///
/// ```
/// use broker_macros::Fault; // exported by broker-streams and broker-streams-client
/// use broker_model::Fault;
///
/// #[derive(Debug, serde::Serialize, serde::Deserialize, Fault)]
/// struct NoSuchPixel { index: u32 }
/// # impl std::fmt::Display for NoSuchPixel {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "there is no pixel {}", self.index) }
/// # }
/// # impl std::error::Error for NoSuchPixel {}
///
/// let fault = NoSuchPixel { index: 7 };
/// assert_eq!(fault.encode().unwrap(), r#"{"index":7}"#);
/// assert!(NoSuchPixel::decode("AnotherFault", "{}").is_none());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `Fault`: it has no name on the wire to a client",
    note = "derive `Fault` if the client shall receive it",
    note = "if it must not, write `.map_err(Failure::internal)?`"
)]
pub trait Fault: Error + Send + Sync + Sized + 'static {
    /// The name under which it travels.
    fn class_name(&self) -> Cow<'static, str>;

    /// Its data as JSON, an object.
    ///
    /// # Errors
    /// What serde says of data that JSON cannot write.
    fn encode(&self) -> Result<String, serde_json::Error>;

    /// Reads what travelled under a name. `None` if that is not a name of this type.
    fn decode(class_name: &str, json: &str) -> Option<Result<Self, Unreadable>>;
}
