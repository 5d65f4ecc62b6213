//! A listener that takes what no listener gets, and one that returns something.
use broker::prelude::*;

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct PixelAdded {
    index: u32,
}

async fn takes_the_value(session: &Session) {
    let _ = session.add_listener("pixel-added", |pixel: PixelAdded| drop(pixel)).await;
}

async fn returns_something(session: &Session) {
    let _ = session.add_listener("pixel-added", |pixel: Received<PixelAdded>| pixel.index).await;
}

fn main() {}
