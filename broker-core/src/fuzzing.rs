//! What the fuzz targets in `fuzz/` reach of the private readers of untrusted bytes. Only built by them.

use bytes::Bytes;

use crate::{
    Post, Raw,
    message::{Wire, raw::envelope},
    revocation::{record::Record, serverpod},
    wire::{bundle, digest::Digest, frame},
};

/// Reads a frame, or the frames of a bundle; what reads is written and read again, and is the same.
pub fn frame(bytes: &[u8]) {
    let (frames, broken): (Vec<_>, Vec<_>) = bundle::frames(bytes).partition(Result::is_ok);
    assert!(broken.len() <= 1, "more than one complaint about a bundle");
    frames.into_iter().flatten().for_each(|frame| read(&Bytes::copy_from_slice(frame)));
}

fn read(frame: &Bytes) {
    let Ok((wire, header)) = frame::decode(frame) else { return };
    let mut post = Post::new(wire.payload.clone()).with_headers(wire.head.headers.clone());
    post.codec = wire.codec;
    (post.sender, post.exchange) = (wire.head.sender, wire.head.exchange);
    post.type_name.clone_from(&wire.type_name);
    let again = if header.is_unnumbered() {
        frame::encode_unnumbered(post, wire.head.id())
    } else {
        let mut again = frame::encode(&post, wire.head.origin);
        frame::write_header(&mut again, header);
        again.freeze()
    };
    let Ok((second, second_stamp)) = frame::decode(&again) else {
        panic!("a frame of our own does not read");
    };
    assert_eq!(header, second_stamp);
    assert_eq!(parts(&wire), parts(&second));
}

fn parts(wire: &Wire) -> impl PartialEq + std::fmt::Debug + '_ {
    (
        wire.head.id(),
        &wire.head.headers,
        (wire.head.sender.to_wire(), wire.head.exchange.to_wire()),
        &wire.type_name,
        wire.codec,
        &wire.payload,
    )
}

/// Reads a digest; what reads is written byte for byte as it was.
pub fn digest(bytes: &[u8]) {
    if let Ok(digest) = Digest::decode(bytes) {
        assert_eq!(&digest.encode()[..], bytes);
    }
}

/// Reads a revocation; what reads is written and read again, and is the same.
pub fn revocation(bytes: &[u8]) {
    let Ok(record) = Record::decode(bytes) else { return };
    let again = record.encode().map(|bytes| Record::decode(&bytes));
    assert_eq!(again.ok().and_then(Result::ok), Some(record));
}

/// Reads what a plain program publishes; an envelope of Serverpod is written and read again, and is the same. So is a
/// revocation.
pub fn raw(bytes: &[u8]) {
    let payload = Bytes::copy_from_slice(bytes);
    let _ = (Raw::Bytes.read(&payload), Raw::Json.read(&payload));
    if let Ok((Some(class), _, data)) = Raw::Serverpod.read(&payload) {
        let again = Raw::Serverpod.read(&envelope::write(&class, &data));
        let Ok((Some(second), _, data_again)) = again else { panic!("an envelope of our own does not read") };
        assert!(class == second && data_again.len() >= data.len());
    }
    if let Ok(revocation) = serverpod::decode("ada", bytes) {
        assert_eq!(serverpod::decode("ada", &serverpod::encode(revocation.what())), Ok(revocation));
    }
}
