//! Steps of cases about sets of channels.

#![expect(clippy::missing_errors_doc, reason = "the page of the module says it")]

use std::collections::BTreeSet;

use broker_core::{Broker, ChannelSet, Gap, GapCause, SetEvent};

use crate::{
    steps::post,
    wait::{text, within},
};

/// The next event, and its channel.
pub async fn next(set: &mut ChannelSet) -> Result<(String, SetEvent), String> {
    let next = within("the next event of the set", set.next()).await?;
    let (channel, event) = next.ok_or_else(|| format!("the set has ended: {:?}", set.close_reason()))?;
    Ok((channel.as_str().to_owned(), event))
}

/// The next event is a message: its channel, and its text.
pub async fn next_text(set: &mut ChannelSet) -> Result<(String, String), String> {
    match next(set).await? {
        (channel, SetEvent::Message(message)) => Ok((channel, text(&message)?)),
        other => Err(format!("expected a message, got {other:?}")),
    }
}

/// The next event is this text, on this channel.
pub async fn yields(set: &mut ChannelSet, channel: &str, expected: &str) -> Result<(), String> {
    let found = next_text(set).await?;
    if found == (channel.to_owned(), expected.to_owned()) {
        Ok(())
    } else {
        Err(format!("expected `{expected}` on `{channel}`, got {found:?}"))
    }
}

/// The next event is this gap, on this channel.
pub async fn yields_gap(
    set: &mut ChannelSet,
    channel: &str,
    missed: Option<u64>,
    cause: GapCause,
) -> Result<(), String> {
    match next(set).await? {
        (found, SetEvent::Gap(gap)) if (&*found, gap.missed, gap.cause) == (channel, missed, cause) => Ok(()),
        other => Err(format!("expected {missed:?} {cause:?} on `{channel}`, got {other:?}")),
    }
}

/// Gaps of unknown size on these channels, in any order.
pub async fn yields_gaps(set: &mut ChannelSet, channels: &[&str], cause: GapCause) -> Result<(), String> {
    let mut missing: BTreeSet<&str> = channels.iter().copied().collect();
    while !missing.is_empty() {
        match next(set).await? {
            (channel, SetEvent::Gap(Gap { missed: None, cause: found, .. }))
                if found == cause && missing.remove(&*channel) => {}
            other => return Err(format!("expected {cause:?} on {missing:?}, got {other:?}")),
        }
    }
    Ok(())
}

/// Nothing more has arrived, nor will, of what the publisher has posted.
pub async fn nothing_more(publisher: &Broker, set: &mut ChannelSet, channel: &str) -> Result<(), String> {
    post(publisher, channel, "nothing more").await?;
    yields(set, channel, "nothing more").await
}
