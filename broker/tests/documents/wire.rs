//! The worked examples of docs/wire-format.md are the bytes that the tests of the code expect.

use super::{blocks, facts::source, read, section};

/// Found in the file about frames.
const FRAME: &str = "fn encode(post: &Post, origin: NodeId)";

/// The bytes of the one block of a section: hexadecimal, each line with a remark behind two spaces.
fn specified(heading: &str) -> Vec<u8> {
    let page = read("docs/wire-format.md");
    let (_, block) = blocks(section(&page, heading)).swap_remove(0);
    let hex = block.lines().filter_map(|line| line.split("  ").next()).flat_map(str::split_whitespace);
    hex.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// The bytes that a test of core expects beside a function.
fn tested(function: &str, test: &str) -> Vec<u8> {
    let source = source(function);
    let (_, test) = source.split_once(&format!("fn {test}()")).unwrap();
    let (_, rest) = test.split_once("let expected = b\"").unwrap();
    let (literal, _) = rest.split_once("\";").unwrap();
    let literal: String = literal.split("\\\n").map(str::trim_start).collect();
    let mut rest = literal.as_str();
    let mut tested = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (byte, length) = match rest.strip_prefix("\\x") {
            Some(escaped) => (u8::from_str_radix(&escaped[..2], 16).unwrap(), 4),
            None => (u8::try_from(first).unwrap(), 1),
        };
        tested.push(byte);
        rest = &rest[length..];
    }
    tested
}

#[test]
fn the_frame_is_specified_as_it_is_tested() {
    assert_eq!(specified("## Frame v1"), tested(FRAME, "the_specified_bytes"));
    assert_eq!(specified("## Frame v1").len(), 46);
}

#[test]
fn the_frame_without_numbers_is_specified_as_it_is_tested() {
    let specified = specified("## Frames without numbers");
    assert_eq!(specified, tested(FRAME, "the_specified_bytes_without_numbers"));
    assert_eq!(specified.len(), 41);
}

#[test]
fn the_digest_is_specified_as_it_is_tested() {
    assert_eq!(specified("## Digests"), tested("pub(crate) struct Digest {", "the_specified_bytes"));
    assert_eq!(specified("## Digests").len(), 54);
}

#[test]
fn the_record_of_a_revocation_is_specified_as_it_is_tested() {
    let page = read("docs/wire-format.md");
    let (language, record) = blocks(section(&page, "## Revocation records")).swap_remove(0);
    assert_eq!(language, "json");
    source(&format!("r#\"{}\"#", record.trim_end()));
}
