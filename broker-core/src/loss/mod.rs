//! Loss: how a node determines that messages were lost on the way. A publisher numbers its messages and announces in digests how
//! many it has posted; a receiver compares both with what arrived.

pub(crate) mod digest_receiver;
pub(crate) mod digest_sender;
pub(crate) mod sequencer;
pub(crate) mod tracker;
