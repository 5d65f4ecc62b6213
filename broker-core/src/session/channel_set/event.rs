//! SetEvent: what a set of channels yields, beside the name of the channel.

use crate::{Error, Gap, Malformed, Message};

/// What a [`ChannelSet`](crate::ChannelSet) yields for one of its channels.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SetEvent {
    /// A message, in its place among those of its channel.
    Message(Message),
    /// Messages of this channel may be missing here.
    Gap(Gap),
    /// Something arrived that is not a message. The channel goes on.
    Malformed(Malformed),
    /// The backend refuses the channel from now on: a permission is missing. It has left the set; the others go on.
    Refused(Error),
}
