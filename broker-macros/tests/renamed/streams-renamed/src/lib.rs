//! The server of streams under another name, without the facade. That this compiles is the test.

/// Has no attribute that says where the trait is.
#[derive(Debug, serde::Serialize, serde::Deserialize, server::Model)]
pub struct Pixel {
    /// Where it is.
    pub index: u32,
}

/// One of several types.
#[derive(Debug, server::Choice)]
pub enum Picture {
    /// A part.
    Pixel(Pixel),
    /// All.
    Board(Vec<u32>),
}

/// Travels to the client.
#[derive(Debug, serde::Serialize, serde::Deserialize, server::Fault)]
pub struct NoSuchPixel {
    /// Where it would be.
    pub index: u32,
}

impl std::fmt::Display for NoSuchPixel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no pixel {}", self.index)
    }
}

impl std::error::Error for NoSuchPixel {}

/// The name on the wire, found through the trait.
pub const NAME: &str = <Pixel as server::Model>::NAME;
