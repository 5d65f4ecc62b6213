//! A background job: it takes orders from a channel, one after the other, and reports each that is done. At the end it does
//! the orders that have arrived.
//!
//! Every worker receives every order. Where one order is for one worker, use a queue.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
};

use broker::{Broker, Channel, ListenerEnd, Model, Scope, StreamError, StreamItem};
use broker_axum::shutdown_signal;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Model)]
struct Order {
    number: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Model)]
struct Done {
    number: u64,
    square: u64,
}

const ORDERS: Channel<Order> = Channel::new("orders");
const DONE: Channel<Done> = Channel::new("done");

/// Where results are kept; elsewhere a table.
type Results = Arc<Mutex<Vec<Done>>>;

/// Works until the broker is drained or closed, and says why it has ended.
async fn work(broker: &Broker, results: Results) -> broker::Result<ListenerEnd> {
    let session = broker.session();
    // Each call gets a clone of the broker, not of the session: that would keep itself open.
    let mut listener = session.add_listener_with(ORDERS, (broker.clone(), results), handle).await?;
    Ok(listener.ended().await)
}

async fn handle((broker, results): (Broker, Results), order: StreamItem<Order>) {
    let order = match order {
        Ok(order) => order,
        Err(StreamError::Gap(gap)) => return eprintln!("ask for the orders anew: {gap}"),
        Err(other) => return eprintln!("no order: {other}"),
    };
    let done = Done { number: order.number, square: order.number.wrapping_mul(order.number) };
    // First what counts. While the broker is drained the post fails: nobody has to learn of it that way.
    results.lock().unwrap_or_else(PoisonError::into_inner).push(done.clone());
    if let Err(error) = broker.post_message(DONE, done, Scope::Global).await {
        eprintln!("{} is done, and not reported: {error}", order.number);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let broker = broker::from_env().await?;
    let draining = broker.clone();
    tokio::spawn(async move {
        shutdown_signal().await;
        draining.drain().await;
    });
    println!("{}", work(&broker, Results::default()).await?);
    broker.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use services::within_a_minute;

    use super::*;

    #[tokio::test]
    async fn orders_are_done_in_order_and_those_that_have_arrived_before_the_end() {
        within_a_minute(async {
            let broker = broker::connect("memory:").await.unwrap();
            let results = Results::default();
            let mut done = broker.create_stream(DONE).await.unwrap();
            let (working, kept) = (broker.clone(), Arc::clone(&results));
            let worker = tokio::spawn(async move { work(&working, kept).await });
            // Until it is subscribed an order goes to nobody.
            let order =
                async |number| broker.post_message(ORDERS, Order { number }, Scope::Global).await.unwrap();
            let first = async {
                loop {
                    order(1).await;
                    tokio::select! {
                        biased;
                        done = done.next() => return done.unwrap().unwrap(),
                        () = tokio::task::yield_now() => {}
                    }
                }
            };
            assert_eq!(*first.await, Done { number: 1, square: 1 });
            drop(done);
            for number in 2..50 {
                order(number).await;
            }
            broker.drain().await;
            assert!(matches!(worker.await.unwrap().unwrap(), ListenerEnd::Closed(_)));
            let results = results.lock().unwrap();
            assert_eq!(results.last(), Some(&Done { number: 49, square: 2401 }));
            assert!(results.is_sorted_by_key(|done| done.number));
        })
        .await;
    }
}
