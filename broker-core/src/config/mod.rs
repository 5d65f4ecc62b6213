//! Config: the options of a broker, and the URL that names its backend.

mod interop;
mod keys;
mod options;
mod url;

pub(crate) use self::options::MOST_CAPACITY;
pub use self::{
    options::{FailMode, Options},
    url::BrokerUrl,
};
