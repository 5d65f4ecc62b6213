//! Failure: why a streaming method failed, as a fault that the client receives or an error that it must not see.

use std::{borrow::Cow, error::Error, fmt, io};

use crate::{Fault, Unreadable};

/// Why a streaming method failed.
///
/// `?` makes one of a [`Fault`], which travels to the client as what it is, and of any other error that is listed below,
/// which does not: the client receives a failure without a text, and the server's log has the text. For an error of another type
/// there is [`Failure::internal`].
///
/// ```
/// use broker_model::Failure;
///
/// fn read(text: &str) -> Result<u32, Failure> {
///     text.parse().map_err(Failure::internal)
/// }
///
/// let failure = read("seven").unwrap_err();
/// assert!(failure.fault().is_none());
/// assert_eq!(failure.to_string(), "invalid digit found in string");
/// ```
pub struct Failure(Kind);

enum Kind {
    Fault(Box<Travelling>),
    Internal(Box<dyn Error + Send + Sync>),
}

/// A fault as it travels, and as the log shows it.
struct Travelling {
    class_name: Cow<'static, str>,
    json: String,
    text: String,
}

impl Failure {
    /// An error that the client must not see.
    #[must_use]
    pub fn internal(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Kind::Internal(error.into()))
    }

    /// The name and the data of the fault, if it is one.
    #[must_use]
    pub fn fault(&self) -> Option<(&str, &str)> {
        match &self.0 {
            Kind::Fault(fault) => Some((&fault.class_name, &fault.json)),
            Kind::Internal(_) => None,
        }
    }

    /// The error, if it is no fault.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        match &self.0 {
            Kind::Fault(_) => None,
            Kind::Internal(error) => Some(&**error),
        }
    }
}

/// Typed: it travels. One that cannot be written is internal.
impl<E: Fault> From<E> for Failure {
    fn from(fault: E) -> Self {
        match fault.encode() {
            Ok(json) => Self(Kind::Fault(Box::new(Travelling {
                class_name: fault.class_name(),
                json,
                text: fault.to_string(),
            }))),
            Err(error) => {
                let name = fault.class_name();
                Self::internal(format!("{fault} (the fault {name} cannot be written: {error})"))
            }
        }
    }
}

macro_rules! internal {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::internal(error)
            }
        }
    )+};
}

internal!(
    Box<dyn Error + Send + Sync>,
    &'static str,
    String,
    fmt::Error,
    io::Error,
    serde_json::Error,
    Unreadable,
);

#[cfg(feature = "anyhow")]
#[cfg_attr(docsrs, doc(cfg(feature = "anyhow")))]
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::internal(error)
    }
}

/// The error and what caused it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Fault(fault) => write!(f, "{} ({})", fault.text, fault.class_name),
            Kind::Internal(error) => {
                write!(f, "{error}")?;
                let mut cause = error.source();
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({self})")
    }
}
