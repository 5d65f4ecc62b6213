//! What the documents state is what the code has: their code compiles, their tables and bytes are those of the source,
//! their links resolve, and none is too long.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod code;
mod facts;
mod interop;
mod links;
mod messaging;
mod wire;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The most bytes of the README, and of each page of docs/ that is written by hand.
const README_BYTES: usize = 8 << 10;
const PAGE_BYTES: usize = 12 << 10;
/// Its table is written by a test.
const GENERATED: &str = "docs/promises.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages of docs/, as `docs/guide.md`.
fn pages() -> Vec<String> {
    let files = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = files.map(|name| format!("docs/{}", name.to_str().unwrap())).collect();
    names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"));
    names.sort();
    assert!(names.len() > 5, "{names:?}");
    names
}

/// The page of each crate in the registry, as `broker-core/README.md`. That of the facade is the README.
fn crate_pages() -> Vec<String> {
    let folders = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name());
    let pages = folders.map(|name| format!("{}/README.md", name.to_str().unwrap()));
    let pages: Vec<_> =
        pages.filter(|page| page.starts_with("broker-") && root().join(page).exists()).collect();
    assert!(pages.len() > 5, "{pages:?}");
    pages
}

/// The part of a page below a heading, up to the next one of the same level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no `{heading}`"));
    let level = heading.split_once(' ').unwrap().0;
    rest.split_once(&format!("\n{level} ")).map_or(rest, |(section, _)| section)
}

/// The blocks of a page between fences, each with the language behind its opening fence.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), String::new())),
            (None, None) => {}
            (Some((_, text)), None) => *text += &format!("{line}\n"),
            (Some(_), Some(_)) => blocks.extend(open.take()),
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

#[test]
fn the_documents_are_short() {
    let length = |page: &str| read(page).len();
    assert!(length("README.md") <= README_BYTES, "README.md has {} bytes", length("README.md"));
    for page in pages().iter().filter(|page| *page != GENERATED) {
        assert!(length(page) <= PAGE_BYTES, "{page} has {} bytes: split it by subject", length(page));
    }
}

/// The example of the crate's front page is compiled and run as a documentation test.
fn example_of_the_crate() -> String {
    let source = read("broker/src/lib.rs");
    let front = source.lines().map_while(|line| line.strip_prefix("//!"));
    let front: String = front.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n").collect();
    let (_, example) = blocks(&front).swap_remove(0);
    example.lines().filter(|line| !line.starts_with("# ")).map(|line| line.to_owned() + "\n").collect()
}

/// Each is the example of the crate, or stands in `code.rs`, `messaging.rs`, `interop.rs`, the cases of PostgreSQL, or the tests of `broker-axum`
/// and `broker-streams`.
#[test]
fn all_code_that_is_shown_is_compiled() {
    let example = example_of_the_crate();
    assert!(example.lines().count() > 10, "{example}");
    assert!(blocks(&read("README.md")).contains(&("rust".to_owned(), example.clone())), "{example}");
    let mut shown = 0;
    for page in ["README.md", "CONTRIBUTING.md"].map(str::to_owned).into_iter().chain(pages()) {
        for (language, block) in blocks(&read(&page)) {
            assert!(
                ["rust", "sh", "text", "toml", "json", "sql"].contains(&&*language),
                "{page}: {language}\n{block}"
            );
            if language != "rust" || block == example {
                continue;
            }
            let indent = |line: &str| if line.is_empty() { "\n".into() } else { format!("    {line}\n") };
            let inside: String = block.lines().map(indent).collect();
            let axum = read("broker-axum/tests/http/documents.rs");
            let streams = read("broker-streams/tests/documents.rs");
            let migrating = read("broker-streams/tests/migrating.rs");
            let sql = read("integration-tests/src/cases/postgres/sql.rs");
            let own = [
                include_str!("code.rs"),
                include_str!("messaging.rs"),
                include_str!("interop.rs"),
                &axum,
                &streams,
                &migrating,
                &sql,
            ];
            let compiled = own.iter().any(|code| code.contains(&inside) || code.contains(&block));
            assert!(compiled, "{page} shows what is not compiled:\n{block}");
            shown += 1;
        }
    }
    assert!(shown > 5, "only {shown} blocks were found");
}

#[test]
fn all_configuration_that_is_shown_is_read() {
    for page in ["README.md".to_owned()].into_iter().chain(crate_pages()).chain(pages()) {
        for (_, block) in blocks(&read(&page)).iter().filter(|(language, _)| language == "toml") {
            let table: toml::Table = block.parse().unwrap_or_else(|error| panic!("{page}: {error}\n{block}"));
            check_dependencies(&page, &table);
            if table.contains_key("url") {
                toml::from_str::<broker::Config>(block).unwrap_or_else(|error| panic!("{page}: {error}"));
            }
        }
    }
}

/// What is shown to depend on is a package of this workspace, with the features that it has, or one that programs have
/// beside it.
fn check_dependencies(page: &str, table: &toml::Table) {
    for section in ["dependencies", "dev-dependencies"] {
        for (name, dependency) in table.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
            let package = dependency.get("package").and_then(toml::Value::as_str).unwrap_or(name);
            if ["axum", "serde", "tokio"].contains(&package) {
                continue;
            }
            let folder = if package == "broker-rs" { "broker" } else { package };
            let manifest: toml::Table = read(&format!("{folder}/Cargo.toml")).parse().unwrap();
            assert_eq!(manifest["package"]["name"].as_str(), Some(package), "{page}");
            let features = dependency.get("features").and_then(toml::Value::as_array);
            for feature in features.into_iter().flatten() {
                let feature = feature.as_str().unwrap();
                assert!(manifest["features"].get(feature).is_some(), "{page}: {package} has no {feature}");
            }
        }
    }
}

#[test]
fn the_readme_names_the_oldest_toolchain() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let oldest = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(read("README.md").contains(&format!("It needs Rust {oldest}.")), "{oldest}");
}

#[test]
fn the_test_command_is_the_one_of_the_checks() {
    assert!(read(".ci/run").contains("\nstep cargo xtask test\n"));
    for page in ["README.md", "CONTRIBUTING.md"] {
        let commands: String = blocks(&read(page)).into_iter().map(|(_, block)| block).collect();
        assert!(commands.lines().any(|line| line.starts_with("cargo xtask test ")), "{page}");
    }
}
