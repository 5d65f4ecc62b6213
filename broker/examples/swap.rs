//! One program for every backend: which one it runs on is a line in a configuration file.
//!
//! ```sh
//! cargo run --example swap                                          # memory:, without a file
//! cargo run --features full --example swap -- my-broker.toml        # url = "redis://127.0.0.1/"
//! ```
//!
//! It prints the same on all of them, byte for byte; a test sees to that.

use std::{error::Error, fs};

use broker::{Broker, Config, Model, Scope, StreamError, StreamItem};
use clap::Parser;
use tokio::sync::mpsc;

/// A café with two servers: orders go from the counter to the kitchen, and come back when they are ready.
#[derive(Parser)]
struct Args {
    /// A TOML file with `url = "…"`, and `[options]` if you like; without it, two servers in this process
    config: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Model, serde::Serialize, serde::Deserialize)]
struct Order {
    table: u8,
    dish: String,
}

#[derive(Clone, Debug, PartialEq, Model, serde::Serialize, serde::Deserialize)]
struct Ready {
    table: u8,
}

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let text = match Args::parse().config {
        Some(path) => fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?,
        None => "url = \"memory://cafe\"".to_owned(),
    };
    let config: Config = toml::from_str(&text)?;
    let (counter, kitchen) = (config.connect().await?, config.connect().await?);

    serve(&counter, &kitchen).await?;
    whisper(&counter, &kitchen).await?;
    refuse(&counter).await;

    counter.drain().await;
    kitchen.drain().await;
    println!("counter and kitchen: {:?} and {:?}", counter.health().state, kitchen.health().state);
    Ok(())
}

/// Three orders to the other server, and back, in order.
async fn serve(counter: &Broker, kitchen: &Broker) -> Outcome {
    let (at_counter, in_kitchen) = (counter.session(), kitchen.session());
    let mut orders = in_kitchen.create_stream::<Order>("orders").await?;
    let (sender, mut received) = mpsc::unbounded_channel();
    let listener = at_counter
        .add_listener("ready", move |ready: StreamItem<Ready>| {
            let sender = sender.clone();
            async move { drop(sender.send(ready.map(|ready| ready.table))) }
        })
        .await?;
    for (table, dish) in [(4, "soup"), (7, "pie"), (4, "tea")] {
        let order = Order { table, dish: dish.to_owned() };
        at_counter.post_message("orders", order, Scope::Global).await?;
    }
    for _ in 0..3 {
        let order = orders.next().await.ok_or("the kitchen is closed")??;
        println!("kitchen: {} for table {}", order.dish, order.table);
        in_kitchen.post_message("ready", Ready { table: order.table }, Scope::Global).await?;
    }
    for _ in 0..3 {
        println!("counter: table {} is ready", received.recv().await.ok_or("nobody listens")??);
    }
    at_counter.remove_listener(listener);
    in_kitchen.close();
    println!("kitchen: any more orders? {}", orders.next().await.is_some());
    Ok(())
}

/// What is said in one server stays there; and a message of another type is told, not lost.
async fn whisper(counter: &Broker, kitchen: &Broker) -> Outcome {
    let (at_counter, in_kitchen) = (counter.session(), kitchen.session());
    let mut here = at_counter.create_stream::<Order>("whispers").await?;
    let mut there = in_kitchen.create_stream::<Order>("whispers").await?;
    let order = |dish: &str| Order { table: 1, dish: dish.to_owned() };
    at_counter.post_message("whispers", order("salt"), Scope::Local).await?;
    println!("counter: {}, said here only", here.next().await.ok_or("closed")??.dish);
    at_counter.post_message("whispers", Ready { table: 1 }, Scope::Global).await?;
    at_counter.post_message("whispers", order("bread"), Scope::Global).await?;
    match there.next().await.ok_or("closed")? {
        Err(StreamError::Gap(gap)) => return Err(format!("lost something: {gap}").into()),
        other => println!("kitchen: is it an order? {}", other.is_ok()),
    }
    println!("kitchen: {}", there.next().await.ok_or("closed")??.dish);
    Ok(())
}

/// Bad input is the same error everywhere, before anything is sent.
async fn refuse(counter: &Broker) {
    for (channel, length) in [("no spaces", 1), ("$own", 1), ("orders", 600_000)] {
        let refused = counter.publish(channel, vec![b'x'; length], Scope::Global).await;
        match refused {
            Ok(_) => println!("{channel}: taken"),
            Err(error) => println!("{channel}: {:?}: {}", error.kind(), error.message()),
        }
    }
}
