//! Core without the facade. That this compiles is the test.

/// Has no attribute that says where the trait is.
#[derive(Debug, serde::Serialize, serde::Deserialize, broker_macros::Model)]
pub struct Pixel {
    /// Where it is.
    pub index: u32,
}

/// The name on the wire, found through the trait.
pub const NAME: &str = <Pixel as broker_core::Model>::NAME;
