//! Each frame that docs/streams-wire.md shows is read, and each type of frame is shown.

use std::{collections::BTreeSet, fs, path::Path};

use broker_streams_wire::{Extension, Frame};

#[test]
fn every_frame_that_is_shown_is_one() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/streams-wire.md");
    let page = fs::read_to_string(page).unwrap();
    let mut shown = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("{\"type\":")) {
        let frame = Frame::read(line, Extension::X1).unwrap_or_else(|error| panic!("{line}: {error}"));
        let text = format!("{frame:?}");
        shown.insert(text.split('(').next().unwrap().to_owned());
        let is_extension = page.find(line) > page.find("## The extension x1");
        assert!(is_extension || Frame::read(line, Extension::Plain).is_ok(), "{line}");
    }
    let kinds =
        "Authenticate Authenticated Bye Close Fault Flow Gap Open Opened Ping Pong Resume Resumed Value";
    assert_eq!(shown.into_iter().collect::<Vec<_>>().join(" "), kinds);
}
