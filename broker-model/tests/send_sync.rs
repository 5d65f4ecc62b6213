//! Every public type can be sent to another thread, and shared with it.

use broker_model::{BigInt, ByteData, DateTime, Failure, Milliseconds, Unreadable, Uri, UuidValue};

#[test]
fn public_types_are_send_and_sync() {
    fn check<T: Send + Sync + 'static>() {}
    check::<(BigInt, ByteData, DateTime, Milliseconds, Uri, UuidValue)>();
    check::<(Failure, Unreadable)>();
}
