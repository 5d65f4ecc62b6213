//! Another type than that of the channel.
use broker::prelude::*;

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct PixelAdded;

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct Renamed;

const PIXELS: Channel<PixelAdded> = Channel::new("pixel-added");

async fn post(broker: &Broker) {
    let _ = broker.post_message(PIXELS, Renamed, Scope::Global).await;
}

async fn read(broker: &Broker) {
    let _ = broker.create_stream::<Renamed>(&PIXELS).await;
}

async fn listen(broker: &Broker) {
    let _ = broker.add_listener(PIXELS, |renamed: Received<Renamed>| drop(renamed)).await;
}

async fn post_text(broker: &Broker) {
    let _ = broker.post_message("news", "text", Scope::Global).await;
}

fn main() {}
