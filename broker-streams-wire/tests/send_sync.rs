//! Every public type can be sent to another thread, and shared with it.

use broker_streams_wire::{BadFrame, CallId, Credential, Frame, OpenResult, Token, Values, Why};

#[test]
fn public_types_are_send_and_sync() {
    fn check<T: Send + Sync + 'static>() {}
    // A frame holds every other type that is read.
    check::<(Frame<'static>, BadFrame, Values)>();
    check::<(CallId, OpenResult, Why, Token, Credential)>();
}
