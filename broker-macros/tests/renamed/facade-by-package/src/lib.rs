//! The facade by the name of its package: its library is still called `broker`. That this compiles is the test.

/// Has no attribute that says where the trait is.
#[derive(Debug, serde::Serialize, serde::Deserialize, broker::Model)]
pub struct Pixel {
    /// Where it is.
    pub index: u32,
}

/// The name on the wire, found through the trait.
pub const NAME: &str = <Pixel as broker::Model>::NAME;
