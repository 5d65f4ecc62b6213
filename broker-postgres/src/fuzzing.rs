//! What a fuzz target in `fuzz/` reaches of the reader of untrusted payloads. Only built by it.

use crate::{
    assembly::{Assembly, LONGEST},
    piece::{Piece, cut},
};

/// Lines of payloads, the first byte of each being the poster; some are changed into pieces of a frame of ours first. Whatever
/// comes, little is kept, and what is complete is cut and read again, and is the same.
pub fn pieces(bytes: &[u8]) {
    let mut assembly = Assembly::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((poster, payload)) = line.split_first() else { continue };
        let mut payloads = vec![String::from_utf8_lossy(payload).into_owned()];
        if poster % 2 == 1 {
            payloads.clear();
            cut("news", &payload.repeat(1 + usize::from(*poster)), &mut 7, &mut payloads);
        }
        for payload in &payloads {
            let Some(piece) = Piece::parse(payload) else { continue };
            let outcome = assembly.add(i32::from(poster / 2), &piece);
            assert!(assembly.kept() <= LONGEST);
            let Some(arrived) = outcome.complete else { continue };
            let (mut again, mut second) = (Vec::new(), Assembly::default());
            cut(arrived.channel(), &[&arrived.frame()], &mut 0, &mut again);
            let read = again.iter().filter_map(|payload| second.add(0, &Piece::parse(payload)?).complete);
            assert_eq!(read.collect::<Vec<_>>(), [arrived], "a frame of our own does not read");
        }
    }
}
