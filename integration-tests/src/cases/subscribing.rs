//! Cases about who hears what, and from when to when.

use broker::Scope;

use crate::{
    case::{Case, Outcome, case},
    harness::Harness,
    wait::{fence, next_message, text, until_is},
};

pub(super) const CASES: &[Case] =
    &[case!(subscribed_means_subscribed, [1]), case!(the_last_one_leaving_unsubscribes_at_the_server, [12])];

/// 100 fresh channels, each with a post from another node right after: none is missed.
async fn subscribed_means_subscribed(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    for n in 0..100 {
        let channel = format!("fresh.{n}");
        let mut subscription = here.subscribe(&channel).await?;
        there.publish(&channel, format!("first {n}"), Scope::Global).await?;
        assert_eq!(text(&next_message(&mut subscription).await?)?, format!("first {n}"));
        fence(&there, &mut subscription).await?;
    }
    Ok(())
}

async fn the_last_one_leaving_unsubscribes_at_the_server(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let (first, second) = (node.subscribe("room").await?, node.subscribe("room").await?);
    let [wire] = &h.subscribed_channels().await?[..] else { return Err("one channel expected".into()) };
    assert!(wire.ends_with("room"), "{wire}");
    drop(first);
    drop(second);
    until_is("the server to forget the channel", Vec::new(), || h.subscribed_channels()).await?;
    Ok(())
}
