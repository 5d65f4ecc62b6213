//! The code that the page on interop shows.

use broker::{Model, Options, Raw};

use super::code::Outcome;

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct Order {
    item: String,
    count: u32,
}

#[tokio::test]
async fn plain_programs_post_and_receive() -> Outcome {
    let options = Options::default().accept_raw("orders.", Raw::Json).accept_raw("sensors.", Raw::Bytes);
    let broker = broker::connect_with("memory://interop", options).await?;

    let mut orders = broker.create_stream::<Order>("orders.42").await?;
    let plain = broker::connect("memory://interop?raw=bytes:orders.").await?;
    plain.post_raw("orders.42", r#"{"item":"tea","count":2}"#).await?;
    assert_eq!(orders.next().await.ok_or("closed")??.count, 2);

    broker.post_raw("orders.42", Raw::Json.encode(&Order { item: "tea".to_owned(), count: 2 })?).await?;
    let order = orders.next().await.ok_or("closed")??;
    assert_eq!((&*order.item, order.count), ("tea", 2));
    Ok(())
}

#[derive(serde::Serialize, serde::Deserialize, Model)]
#[serde(rename_all = "camelCase")]
struct ImageUpdate {
    pixel_index: u64,
    color_index: u8,
}

#[tokio::test]
async fn serverpods_servers_post_and_receive() -> Outcome {
    let options = Options::default().accept_raw("pixel-added", Raw::Serverpod);
    let broker = broker::connect_with("memory://serverpod", options).await?;

    let mut updates = broker.create_stream::<ImageUpdate>("pixel-added").await?;
    let update = ImageUpdate { pixel_index: 17, color_index: 3 };
    broker.post_raw("pixel-added", Raw::Serverpod.encode(&update)?).await?;
    assert_eq!(updates.next().await.ok_or("closed")??.pixel_index, 17);

    let page = super::read("docs/interop.md");
    let envelope = Raw::Serverpod.encode(&ImageUpdate { pixel_index: 17, color_index: 3 })?;
    assert!(page.contains(std::str::from_utf8(&envelope)?));
    Ok(())
}
