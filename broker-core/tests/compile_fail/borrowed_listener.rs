//! A listener that borrows what it uses.
use broker::prelude::*;

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct PixelAdded {
    index: u32,
}

async fn listen(session: &Session) {
    let mut seen = Vec::new();
    let _ = session.add_listener("pixel-added", |pixel: Received<PixelAdded>| seen.push(pixel.index)).await;
}

fn main() {}
