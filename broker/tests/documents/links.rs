//! Every relative link of the documents leads somewhere, and every page is linked from the README.

use std::collections::{HashMap, HashSet};

use super::{blocks, crate_pages, pages, read, root};

/// The names of a page's headings in links, as GitHub makes them.
fn anchors(page: &str) -> HashSet<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut anchors = HashSet::new();
    for heading in without_code(page).lines().filter(|line| line.starts_with('#')) {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let times = seen.entry(name.clone()).or_default();
        anchors.insert(if *times == 0 { name } else { format!("{name}-{times}") });
        *times += 1;
    }
    anchors
}

/// A page without what stands between fences, where a `#` is no heading and `](` no link.
fn without_code(page: &str) -> String {
    blocks(page).iter().fold(page.to_owned(), |page, (_, block)| page.replacen(block, "", 1))
}

/// The targets of a page's links.
fn targets(page: &str) -> Vec<String> {
    let text = without_code(page);
    let found = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    found.map(|(target, _)| target.to_owned()).collect()
}

/// What a link of a page leads to, from the root of the repository: the path, and the anchor.
fn resolved(from: &str, target: &str) -> (String, Option<String>) {
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor.to_owned())),
        None => (target, None),
    };
    if path.is_empty() {
        return (from.to_owned(), anchor);
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            ".." => assert!(parts.pop().is_some(), "{from}: {target} leads out of the repository"),
            "." => {}
            part => parts.push(part),
        }
    }
    (parts.join("/"), anchor)
}

fn check(from: &str) -> usize {
    let targets = targets(&read(from));
    let relative = targets.iter().filter(|target| !target.contains("://"));
    for target in relative {
        let (path, anchor) = resolved(from, target);
        assert!(root().join(&path).exists(), "{from}: nothing is at {target}");
        if let Some(anchor) = anchor {
            assert!(anchors(&read(&path)).contains(&anchor), "{from}: {target}: {path} has no such heading");
        }
    }
    targets.len()
}

#[test]
fn every_link_has_a_target() {
    let documents = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "integration-tests/FAULTS.md"];
    let count: usize = documents.into_iter().map(check).sum();
    let count = count + crate_pages().iter().map(|page| check(page)).sum::<usize>();
    let count = count + pages().iter().map(|page| check(page)).sum::<usize>();
    assert!(count > 50, "only {count} links were found");
}

#[test]
fn every_page_is_linked_from_the_readme() {
    let linked: Vec<String> =
        targets(&read("README.md")).iter().map(|target| resolved("README.md", target).0).collect();
    for page in pages() {
        assert!(linked.contains(&page), "{page}");
    }
}

/// A file that is named as code, by its path from the root of the repository or from the source of core.
#[test]
fn every_file_that_is_named_exists() {
    let mut count = 0;
    for page in ["README.md".to_owned(), "CONTRIBUTING.md".to_owned()].into_iter().chain(pages()) {
        let text = without_code(&read(&page));
        for name in text.split('`').filter(|code| code.contains('/') && code.ends_with(".rs")) {
            if name.contains('<') {
                continue; // a name to be filled in
            }
            let found = ["", "broker-core/src"].iter().any(|from| root().join(from).join(name).exists());
            assert!(found, "{page}: no file is at {name}");
            count += 1;
        }
    }
    assert!(count > 20, "only {count} files are named");
}
