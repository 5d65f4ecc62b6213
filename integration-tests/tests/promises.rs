//! docs/promises.md lists which cases hold which promise; this keeps its table true.

use std::{collections::BTreeSet, fs, path::Path};

use broker_conformance::cases;

const BEGIN: &str =
    "<!-- promises: written by `BLESS=1 cargo test -p integration-tests --test promises` -->\n";
const END: &str = "<!-- end of promises -->\n";

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn claimed() -> BTreeSet<u8> {
    cases::all().flat_map(|case| case.promises.iter().copied()).collect()
}

fn table() -> String {
    let row = |promise: u8| {
        let holding = cases::all().filter(|case| case.promises.contains(&promise));
        let names: Vec<String> = holding.map(|case| format!("`{}`", case.name)).collect();
        format!("| {promise} | {} |\n", names.join(", "))
    };
    format!("| promise | cases |\n|---|---|\n{}", claimed().into_iter().map(row).collect::<String>())
}

/// Every promise has a case, and no case holds a promise that is not made.
#[test]
fn the_promises_of_the_readme_match_the_cases() {
    let readme = page("README.md");
    let (_, promises) = readme.split_once("## Promises\n").expect("the promises");
    let section = promises.lines().take_while(|line| !line.starts_with("## "));
    let rows = section.filter_map(|line| line.strip_prefix("| ")?.split_once(" |")?.0.parse().ok());
    assert_eq!(rows.collect::<BTreeSet<u8>>(), claimed());
}

#[test]
fn the_table_of_cases_is_current() {
    let text = page("docs/promises.md");
    let (before, rest) = text.split_once(BEGIN).expect("the mark before the table");
    let (found, after) = rest.split_once(END).expect("the mark behind the table");
    let table = table();
    if std::env::var_os("BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/promises.md");
        fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).expect("docs/promises.md is written");
        return;
    }
    assert_eq!(found, table, "run it with BLESS=1 to write the table anew");
}
