//! Channel names, which come from users: what is accepted keeps the rules that every backend relies on.
#![no_main]

use broker_core::ChannelName;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match ChannelName::new(text) {
        Ok(name) => {
            assert_eq!(name.as_str(), text);
            assert!(keeps_the_rules(text), "accepted: {text:?}");
        }
        Err(error) => {
            assert!(!keeps_the_rules(text), "refused: {text:?}: {error}");
            let shown = error.to_string();
            assert!(shown.len() < 1000 && !shown.contains(char::is_control), "{shown:?}");
        }
    }
});

/// The rules of the design, written down a second time.
fn keeps_the_rules(text: &str) -> bool {
    let legal = |c: char| !c.is_whitespace() && !c.is_control() && !"*>#".contains(c);
    (1..=200).contains(&text.len())
        && text.chars().all(legal)
        && text.split('.').all(|segment| !segment.is_empty() && !segment.starts_with('$'))
}
