//! What becomes of posts by programs that are no nodes: frames without numbers, bare payloads, and revocations of
//! Serverpod's servers.

use bytes::Bytes;

use super::{Dispatch, Receivers};
use crate::{
    ChannelName, Headers, Malformed, Message, MessageId, NodeId,
    driver::random,
    hub::PutBy,
    message::{Head, Wire, raw::form_of, sender::Sender},
    revocation::serverpod,
    wire::frame,
};

impl Dispatch {
    /// Something that is no frame.
    #[cold]
    pub(super) fn receive_bare(&self, name: &str, payload: &Bytes) {
        let Receivers { follower, raw, .. } = &self.0.receivers;
        if self.is_serverpods(name)
            && let Some(user) = serverpod::user_of(name)
            && let Err(reason) = follower.receive_serverpod(user, payload)
        {
            return self.receive_malformed(name, Malformed::new(reason, payload.len()));
        }
        let Some(form) = form_of(raw, name).filter(|_| !name.starts_with('$')) else {
            if !self.is_serverpods(name) {
                let error = frame::decode(payload).err();
                self.receive_malformed(
                    name,
                    error.unwrap_or_else(|| Malformed::new("not a frame", payload.len())),
                );
            }
            return;
        };
        match form.read(payload) {
            Ok((type_name, codec, payload)) => {
                let id = MessageId { origin: NodeId::from_u64(0), number: random() };
                let head = Head::global(id, None, Headers::new(), Sender::default());
                self.receive_unnumbered(name, Wire::new(head, type_name, codec, payload));
            }
            Err(reason) => self.receive_malformed(name, Malformed::new(reason, payload.len())),
        }
    }

    /// A revocation of Serverpod's may be among what is missing on these channels.
    pub(super) fn missed_on(&self, channels: &[ChannelName]) {
        if channels.iter().any(|channel| self.is_serverpods(channel.as_str())) {
            self.0.receivers.follower.missed_serverpods();
        }
    }

    /// Whether it is a channel on which Serverpod's servers revoke, and this node listens to them.
    pub(super) fn is_serverpods(&self, name: &str) -> bool {
        self.0.receivers.follower.serverpod && serverpod::user_of(name).is_some()
    }

    /// A message of a program that is no node: nothing is compared with it, and nothing is noted about its origin.
    pub(super) fn receive_unnumbered(&self, name: &str, wire: Wire) {
        if name.starts_with('$') {
            let reason = "a frame without numbers on a channel of the broker's own";
            return self.receive_malformed(name, Malformed::new(reason, wire.payload.len()));
        }
        let hub = &self.0.receivers.hub;
        let message = Message::from_wire(wire);
        self.while_open(|_, wakes| _ = hub.put(name, message, PutBy::Link, wakes));
    }
}
