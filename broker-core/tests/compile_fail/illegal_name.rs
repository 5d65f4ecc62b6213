//! A name that no backend takes.
use broker::prelude::*;

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct PixelAdded;

const PIXELS: Channel<PixelAdded> = Channel::new("pixel added");

fn main() {
    println!("{PIXELS}");
}
