//! Decode: from a message to a typed value, once for all subscribers of the process.

use std::{any::Any, sync::Arc};

use crate::{Codec, Malformed, Message, Model, Received, StreamError, message::Local};

impl Message {
    /// The value, decoded at most once for all subscribers of the process.
    ///
    /// # Errors
    /// [`StreamError::WrongType`] for a message of another type, [`StreamError::Malformed`] when the payload
    /// does not decode.
    pub fn decode<T: Model>(&self) -> Result<Received<T>, StreamError> {
        self.clone().into_decoded()
    }

    /// The same of a message that nobody else needs: one less to count.
    pub(crate) fn into_decoded<T: Model>(self) -> Result<Received<T>, StreamError> {
        if (&*self.0 as &dyn Any).is::<Local<T>>() {
            // It is one, so this never fails; the compiler does not know.
            let local = (self.0 as Arc<dyn Any + Send + Sync>).downcast();
            return local
                .map(Received::local)
                .map_err(|_| StreamError::Malformed(Malformed::new("another type", 0)));
        }
        if self.type_name() != Some(T::NAME) && !self.is_of_any_type() {
            return Err(StreamError::WrongType { expected: T::NAME, message: self });
        }
        let decoded = match self.0.wire() {
            Some(wire) => wire.decode::<T>(),
            None => self.recode::<T>(),
        };
        decoded.map(|value| Received::wire(self, value)).map_err(StreamError::Malformed)
    }

    /// A plain program does not say the type of its JSON: the reader knows.
    #[cold]
    fn is_of_any_type(&self) -> bool {
        self.type_name().is_none() && self.codec() == Codec::Json
    }

    /// A typed local message of another Rust type with the same name: through its encoding, as over the wire.
    fn recode<T: Model>(&self) -> Result<Arc<T>, Malformed> {
        let payload = self.payload().map_err(|error| Malformed::new(error.to_string(), 0))?;
        self.codec().decode(&payload).map(Arc::new).map_err(|reason| Malformed::new(reason, payload.len()))
    }
}
