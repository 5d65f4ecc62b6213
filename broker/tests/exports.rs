//! The public names of the facade, so that a new one is a decision: each is a promise to users.
//!
//! `BLESS=1 cargo test -p broker-rs --test exports` writes the list anew.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, env, fs, path::Path};

use syn::{Item, UseTree, Visibility};

/// Names that std, tokio, axum and most programs use for something else.
const NOT_IN_THE_PRELUDE: [&str; 14] = [
    "Codec",
    "Config",
    "Error",
    "Event",
    "Headers",
    "Identity",
    "Item",
    "Message",
    "Options",
    "Ordering",
    "Post",
    "Result",
    "State",
    "Subscription",
];

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// What `use` makes visible. A glob would make visible what nobody has decided on.
fn add_used(tree: &UseTree, names: &mut BTreeSet<String>) {
    match tree {
        UseTree::Path(path) => add_used(&path.tree, names),
        UseTree::Name(name) => drop(names.insert(name.ident.to_string())),
        UseTree::Rename(rename) => drop(names.insert(rename.rename.to_string())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| add_used(tree, names)),
        UseTree::Glob(_) => panic!("the facade exports by list"),
    }
}

/// The public names of one file of the facade.
fn names(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let mut names = BTreeSet::new();
    for item in syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap().items {
        match item {
            Item::Use(item) if is_public(&item.vis) => add_used(&item.tree, &mut names),
            Item::Fn(item) if is_public(&item.vis) => drop(names.insert(item.sig.ident.to_string())),
            Item::Mod(item) if is_public(&item.vis) => drop(names.insert(item.ident.to_string())),
            Item::Const(item) if !is_public(&item.vis) => {}
            Item::Use(_) | Item::Fn(_) | Item::Mod(_) => {}
            _ => panic!("{file} has an item of a kind that this test does not read"),
        }
    }
    names
}

#[test]
fn the_public_names_are_those_of_the_list() {
    let lines = |file, prefix: &str| -> String {
        names(file).iter().map(|name| format!("broker::{prefix}{name}\n")).collect()
    };
    let found = lines("lib.rs", "") + &lines("prelude.rs", "prelude::");
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports.txt");
    if env::var_os("BLESS").is_some() {
        fs::write(&list, &found).unwrap();
    }
    let listed = fs::read_to_string(&list).unwrap();
    assert_eq!(found, listed, "a promise to users was added or taken back; BLESS=1 writes the list anew");
}

#[test]
fn the_prelude_has_no_name_that_others_use() {
    let prelude = names("prelude.rs");
    for name in NOT_IN_THE_PRELUDE {
        assert!(!prelude.contains(name), "{name}");
    }
    assert!(prelude.is_subset(&names("lib.rs")), "{prelude:?}");
}
