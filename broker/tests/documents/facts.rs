//! The tables of the documents, held against the code.

use std::fs;

use broker::{ChannelName, ErrorKind, Headers, Options};
use broker_core::{
    BrokerUrl,
    driver::{MAX_FRAME, MAX_NAME, MAX_RECORD},
};

use super::{blocks, read, root, section};

/// The text of the one file of `broker-core` that has a text in it.
pub(super) fn source(text: &str) -> String {
    let mut folders = vec![root().join("broker-core/src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.extend(fs::read_to_string(entry.path()).ok().filter(|source| source.contains(text)));
            }
        }
    }
    assert_eq!(found.len(), 1, "files with `{text}`");
    found.swap_remove(0)
}

/// The variants of an enum in a source text.
fn variants<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
    let (_, rest) = source.split_once(&format!("pub enum {name} {{\n")).unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let words = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = words.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    variants.map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap()).collect()
}

/// The cells of the table rows whose first cell is code.
fn rows(section: &str) -> Vec<(Vec<&str>, &str)> {
    let lines = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = lines.map(|line| line.split(" | ").map(str::trim).collect::<Vec<_>>());
    cells.map(|cells| (cells[0].split("`, `").map(|key| key.trim_matches('`')).collect(), cells[1])).collect()
}

fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap()).collect();
    parts.join(",")
}

#[test]
fn every_option_has_its_default_in_the_documents() {
    let page = read("docs/operations.md");
    let rows = rows(section(&page, "## Options"));
    let example: toml::Table = read("broker/examples/broker.toml").parse().unwrap();
    for key in Options::URL_KEYS {
        assert!(example["options"].as_table().unwrap().contains_key(*key), "{key} is not in broker.toml");
        let (_, shown) =
            rows.iter().find(|(keys, _)| keys == &[*key]).unwrap_or_else(|| panic!("no row of {key}"));
        let value = match shown.split_once(' ') {
            Some((count, "KiB")) => (count.parse::<usize>().unwrap() << 10).to_string(),
            Some((count, "MiB")) => (count.parse::<usize>().unwrap() << 20).to_string(),
            _ if *shown == "none" => String::new(),
            _ => shown.replace([' ', '`'], ""),
        };
        let url = BrokerUrl::parse(&format!("memory:?{key}={value}")).unwrap();
        let options = Options::default().with_url(&url).unwrap();
        assert_eq!(options, Options::default(), "the default of {key} is not {shown}");
    }
    assert_eq!(rows.len(), Options::URL_KEYS.len());
}

#[test]
fn every_scheme_and_every_key_of_a_url_is_in_the_documents() {
    let page = read("docs/backends.md");
    let rows = rows(section(&page, "## URLs"));
    let row = |key: &str| rows.iter().find(|(keys, _)| keys.contains(&key)).map(|(_, second)| *second);
    let source = read("broker/src/backends.rs");
    let (_, known) = source.split_once("const KNOWN").unwrap();
    let (known, _) = known.split_once("];").unwrap();
    let schemes: Vec<&str> =
        known.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split('"').next()).collect();
    assert!(schemes.len() > 5, "{schemes:?}");
    for scheme in schemes {
        assert!(row(scheme).is_some(), "no row of the scheme {scheme}");
        let place = match scheme {
            "memory" => "memory:".to_owned(),
            "redis+unix" => "redis+unix:///socket".to_owned(),
            _ => format!("{scheme}://host"),
        };
        let error = broker::open(&format!("{place}?none-such=1"), Options::default()).unwrap_err();
        if error.kind() == ErrorKind::Unsupported {
            continue; // not in this build
        }
        let message = error.to_string();
        let (_, keys) = message.split_once("valid keys: ").unwrap_or_else(|| panic!("{message}"));
        for key in keys.split(", ").filter(|key| !Options::URL_KEYS.contains(key)) {
            assert!(row(key).is_some(), "no row of the key {key} of {scheme}");
        }
    }
}

#[test]
fn the_limits_are_those_of_the_code() {
    let page = read("docs/guide.md");
    let limits = section(&page, "## Limits");
    for text in [
        format!("1 to {} bytes of UTF-8", ChannelName::MAX),
        format!("| headers | {}, together {} KiB", Headers::MAX_COUNT, Headers::MAX_BYTES >> 10),
        format!("`max_payload`: {} KiB by default", Options::default().max_payload >> 10),
    ] {
        assert!(limits.contains(&text), "{text}");
    }
    let page = read("docs/bounds.md");
    let sizes = section(&page, "## Sizes");
    for size in [MAX_FRAME, MAX_NAME, MAX_RECORD] {
        assert!(sizes.contains(&format!("| {} |", grouped(size))), "{size}");
    }
}

#[test]
fn every_kind_of_error_state_gap_and_outcome_is_in_the_documents() {
    for (name, page, heading) in [
        ("ErrorKind", "docs/guide.md", "## Errors"),
        ("GapCause", "docs/guide.md", "## Gaps"),
        ("Scope", "docs/guide.md", "## Scopes"),
        ("ConnectionState", "docs/operations.md", "## Health"),
    ] {
        let (source, page) = (source(&format!("pub enum {name} {{")), read(page));
        let variants = variants(&source, name);
        assert!(variants.len() > 2, "{variants:?}");
        for variant in variants {
            assert!(section(&page, heading).contains(&format!("`{variant}`")), "{name}::{variant}");
        }
    }
}

#[test]
fn every_metric_is_in_the_documents() {
    let (source, page) = (source("\"broker_published_total\""), read("docs/operations.md"));
    let metrics: Vec<&str> = source.split('"').filter(|text| text.starts_with("broker_")).collect();
    assert!(metrics.len() > 8, "{metrics:?}");
    for metric in metrics {
        assert!(section(&page, "## Metrics").contains(&format!("`{metric}`")), "{metric}");
    }
}

/// The page of each driver stands alone, so it repeats them.
#[test]
fn the_permissions_match_the_drivers_pages() {
    let page = read("docs/operations.md");
    let drivers: String =
        ["redis", "nats", "rabbitmq"].map(|name| read(&format!("broker-{name}/src/lib.rs"))).concat();
    let blocks = blocks(section(&page, "## Permissions at the server"));
    assert_eq!(blocks.len(), 4);
    for line in blocks.iter().flat_map(|(_, block)| block.lines()) {
        assert!(drivers.contains(&format!("//! {line}\n")), "{line}");
    }
}
