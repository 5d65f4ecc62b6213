//! Model: what a type of the application is called on the wire.

use serde::{Serialize, de::DeserializeOwned};

/// A type that can be posted: it has a name on the wire, and serde encodes it.
///
/// Usually derived; the name is the type's own unless `#[model(name = "…")]` says otherwise. The name is
/// the contract between nodes: keep it when the type is renamed or moved.
///
/// ```
/// use broker::Model;
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// #[model(name = "pixel-added")]
/// struct PixelAdded { index: u32, colour: u8 }
///
/// assert_eq!(PixelAdded::NAME, "pixel-added");
/// ```
///
/// # What cannot be posted
///
/// A value that would not be read as what it was is refused by every way to post it, in every scope, with
/// `ErrorKind::Codec`:
///
/// - NaN and infinities in JSON;
/// - `Some(None)` and `Some(())`, which are written as `None` is; in JSON also `Some` of a unit struct. This holds for
///   a type that tells them apart by a `deserialize_with` of its own, too: let its `serialize_with` write the inner
///   `None` without the `Some` around it, as `serde_with::rust::double_option` does;
/// - what is nested 128 deep or deeper;
/// - maps in JSON whose keys are no strings, numbers, booleans or unit variants.
///
/// For that [`Serialize`] is called on the value once more than it is encoded: once for a local post. It cannot find out
/// what an implementation leaves out, or writes in another way than its [`Deserialize`](serde::Deserialize) reads it. Nor can it find what
/// serde itself does not read behind an internal tag (`#[serde(tag = "…")]`), `untagged` or `flatten`: integers of 128
/// bits; in JSON maps whose keys are numbers or booleans; and a map with a key that is also a field's name or the tag.
/// Receivers then get an error item in the place of such a value.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use broker::{ErrorKind, Model, Scope};
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct Reading { value: f64 }
///
/// let session = broker::connect("memory:").await?.session();
/// let refused = session.post_message("readings", Reading { value: f64::NAN }, Scope::Local).await;
/// assert_eq!(refused.unwrap_err().kind(), ErrorKind::Codec);
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `Model`: it has no name on the wire",
    note = "derive it: `#[derive(serde::Serialize, serde::Deserialize, broker::Model)]`",
    note = "bytes and text are posted by `Session::post` or `Broker::publish`"
)]
pub trait Model: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name on the wire: 1 to 255 bytes.
    const NAME: &'static str;
}
