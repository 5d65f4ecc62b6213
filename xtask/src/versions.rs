//! The table of the servers' versions, as the documents and the hosted workflow repeat it. `BLESS=1 cargo test -p xtask`
//! writes them anew.

use std::{env, fs};

use crate::{
    run::root,
    servers::{BACKENDS, SERVERS, Version},
};

fn all() -> impl Iterator<Item = &'static Version> {
    SERVERS.iter().flat_map(|server| &server.versions)
}

/// What people call the versions of a backend's servers, in order.
fn titles(backend: &str) -> String {
    let of_it = SERVERS.iter().filter(|server| server.backend == backend);
    let mut titles: Vec<&str> = of_it.flat_map(|server| &server.versions).map(|one| &*one.title).collect();
    titles.sort_unstable();
    titles.join(", ")
}

/// Holds the one line of a file that begins so to what it must be.
fn holds(file: &str, start: &str, line: &str) {
    let path = root().join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let found: Vec<&str> = text.lines().filter(|line| line.starts_with(start)).collect();
    assert_eq!(found.len(), 1, "{file} has not one line that begins with `{start}`: {found:?}");
    if env::var_os("BLESS").is_some() {
        let written: String = text
            .lines()
            .map(|old| if old.starts_with(start) { line } else { old }.to_owned() + "\n")
            .collect();
        fs::write(&path, written).unwrap_or_else(|error| panic!("{file}: {error}"));
    } else {
        assert_eq!(found[0], line, "{file}: run it with BLESS=1 to write the line anew");
    }
}

#[test]
fn the_documents_name_every_version() {
    let mut titles_by_name: Vec<String> = BACKENDS.iter().map(|backend| titles(backend)).collect();
    titles_by_name.retain(|titles| !titles.is_empty());
    holds("README.md", "Tested with ", &format!("Tested with {}.", titles_by_name.join(", ")));
    let page = fs::read_to_string(root().join("docs/backends.md")).unwrap_or_default();
    let header = page.lines().find(|line| line.starts_with("| | memory |")).expect("the table's first row");
    let columns = header.split(" | ").skip(1).map(|column| column.trim_end_matches(" |").to_lowercase());
    // A column has the name that the makers write: PostgreSQL.
    let columns: Vec<&String> = columns
        .filter_map(|column| BACKENDS.iter().find(|backend| column.starts_with(backend.as_str())))
        .collect();
    assert!(
        BACKENDS.iter().all(|backend| columns.contains(&backend)),
        "a backend without a column: {header}"
    );
    let cell = |titles: String| if titles.is_empty() { " |".to_owned() } else { format!(" {titles} |") };
    let row = format!("| tested with |{}", columns.iter().map(|name| cell(titles(name))).collect::<String>());
    holds("docs/backends.md", "| tested with |", &row);
}

#[test]
fn the_hosted_workflow_runs_every_version() {
    let names: Vec<&str> = all().map(|version| &*version.name).collect();
    let line = format!("        server: [{}]", names.join(", "));
    holds(".github/workflows/ci.yml", "        server: [", &line);
}

#[test]
fn every_version_has_a_name_of_its_own() {
    let mut names: Vec<&str> = all().map(|version| &*version.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
    assert!(!names.contains(&"all"));
}
