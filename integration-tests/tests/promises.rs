//! ARCHITECTURE.md says which cases prove which promise; this keeps its table true.

use std::{fs, path::Path};

use integration_tests::cases;

/// The promises of the design.
const PROMISES: std::ops::RangeInclusive<u8> = 1..=12;

const BEGIN: &str =
    "<!-- promises: written by `BLESS=1 cargo test -p integration-tests --test promises` -->\n";
const END: &str = "<!-- end of promises -->\n";

fn table() -> String {
    let rows = PROMISES.map(|promise| {
        let proving = cases::all().filter(|case| case.promises.contains(&promise));
        let names: Vec<String> = proving.map(|case| format!("`{}`", case.name)).collect();
        assert!(!names.is_empty(), "no case proves promise {promise}");
        format!("| {promise} | {} |\n", names.join(", "))
    });
    format!("| promise | cases |\n|---|---|\n{}", rows.collect::<String>())
}

#[test]
fn the_table_in_the_architecture_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let text = fs::read_to_string(&path).expect("ARCHITECTURE.md");
    let (before, rest) = text.split_once(BEGIN).expect("the mark before the table");
    let (found, after) = rest.split_once(END).expect("the mark behind the table");
    let table = table();
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).expect("ARCHITECTURE.md is written");
        return;
    }
    assert_eq!(found, table, "run it with BLESS=1 to write the table anew");
}
