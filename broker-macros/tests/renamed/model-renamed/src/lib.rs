//! The traits under another name, without a broker. That this compiles is the test.

/// Has no attribute that says where the trait is.
#[derive(Debug, serde::Serialize, serde::Deserialize, broker_macros::Model)]
pub struct Pixel {
    /// Where it is.
    pub index: u32,
}

/// One of several types.
#[derive(Debug, broker_macros::Choice)]
pub enum Picture {
    /// A part.
    Pixel(Pixel),
    /// All.
    Board(Vec<u32>),
}

/// Travels to the client.
#[derive(Debug, serde::Serialize, serde::Deserialize, broker_macros::Fault)]
pub enum Refused {
    /// There is none.
    NoSuchPixel {
        /// Where it would be.
        index: u32,
    },
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Refused {}

/// The name on the wire, found through the trait.
pub const NAME: &str = <Pixel as names::Model>::NAME;

/// What a method fails by.
#[must_use]
pub fn failure(refused: Refused) -> names::Failure {
    refused.into()
}
