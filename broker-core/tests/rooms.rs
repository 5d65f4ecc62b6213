//! Which file of this crate uses which: no circle, and the contract and the wire use nothing above them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Item, UseTree, visit::Visit};

/// The source of one module, and the names that it makes visible from others.
#[derive(Default)]
struct Module {
    /// A name that is re-exported, and the path behind it.
    exports: BTreeMap<String, Vec<String>>,
    /// The paths from the root of the crate that its code names.
    uses: BTreeSet<Vec<String>>,
}

/// All modules by their path from the root of the crate.
#[derive(Default)]
struct Crate(BTreeMap<Vec<String>, Module>);

fn only_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = attribute.meta.require_list().map(|list| list.tokens.to_string()).unwrap_or_default();
        attribute.path().is_ident("cfg") && (text.contains("test") || text.contains("fuzzing"))
    })
}

impl Crate {
    fn read(&mut self, file: &Path, path: Vec<String>) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut module = Module::default();
        let children = file.parent().expect("a folder");
        let children = match file.file_stem().and_then(|name| name.to_str()).expect("a name") {
            "mod" | "lib" => children.to_owned(),
            name => children.join(name),
        };
        for item in parsed.items {
            match item {
                Item::Mod(child) if child.content.is_none() && !only_for_tests(&child.attrs) => {
                    let mut path = path.clone();
                    path.push(child.ident.to_string());
                    self.read(&source(&children, &child.ident.to_string()), path);
                }
                Item::Mod(_) => {}
                Item::Use(item) if !only_for_tests(&item.attrs) => {
                    let is_export = !matches!(item.vis, syn::Visibility::Inherited);
                    for (mut named, name) in leaves(&item.tree, &[]) {
                        let known = matches!(named[0].as_str(), "crate" | "self" | "super");
                        if !known && !children_of(&children, &named[0]) {
                            continue;
                        }
                        if !known {
                            named.insert(0, "self".to_owned());
                        }
                        let target = absolute(&path, &named);
                        if is_export {
                            module.exports.insert(name, target);
                        } else {
                            module.uses.insert(target);
                        }
                    }
                }
                item => Paths { module: &path, uses: &mut module.uses }.visit_item(&item),
            }
        }
        self.0.insert(path, module);
    }

    /// The module that defines what a path names: through every re-export.
    fn definer(&self, path: &[String]) -> Option<Vec<String>> {
        let mut path = path.to_vec();
        for _ in 0..20 {
            let module = (0..=path.len()).rev().find(|n| self.0.contains_key(&path[..*n]))?;
            let rest = &path[module..];
            match rest.first().and_then(|name| self.0[&path[..module]].exports.get(name)) {
                Some(target) => path = [target.as_slice(), &rest[1..]].concat(),
                None => return Some(path[..module].to_vec()),
            }
        }
        panic!("a re-export of itself: {path:?}");
    }

    /// Each module, and those it uses.
    fn graph(&self) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
        let used = |path: &Vec<String>, module: &Module| {
            let used = module.uses.iter().filter_map(|used| self.definer(used));
            used.filter(|used| used != path && !used.is_empty()).collect()
        };
        self.0.iter().map(|(path, module)| (path.clone(), used(path, module))).collect()
    }
}

fn source(folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(format!("{name}.rs"));
    if file.exists() { file } else { folder.join(name).join("mod.rs") }
}

fn children_of(folder: &Path, name: &str) -> bool {
    source(folder, name).exists()
}

/// Every path of a `use`, with the name it gets here.
fn leaves(tree: &UseTree, before: &[String]) -> Vec<(Vec<String>, String)> {
    match tree {
        UseTree::Path(path) => leaves(&path.tree, &[before, &[path.ident.to_string()]].concat()),
        UseTree::Name(name) if name.ident == "self" => {
            vec![(before.to_vec(), before.last().cloned().unwrap_or_default())]
        }
        UseTree::Name(name) => {
            vec![([before, &[name.ident.to_string()]].concat(), name.ident.to_string())]
        }
        UseTree::Rename(name) => {
            vec![([before, &[name.ident.to_string()]].concat(), name.rename.to_string())]
        }
        UseTree::Glob(_) => vec![(before.to_vec(), "*".to_owned())],
        UseTree::Group(group) => group.items.iter().flat_map(|tree| leaves(tree, before)).collect(),
    }
}

/// A path that begins with `crate`, `self` or `super`, from the root of the crate.
fn absolute(module: &[String], named: &[String]) -> Vec<String> {
    let mut path = if named[0] == "crate" { Vec::new() } else { module.to_vec() };
    for name in named {
        match name.as_str() {
            "crate" | "self" => {}
            "super" => _ = path.pop(),
            _ => path.push(name.clone()),
        }
    }
    path
}

/// Collects paths outside of `use`.
struct Paths<'a> {
    module: &'a [String],
    uses: &'a mut BTreeSet<Vec<String>>,
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if matches!(names[0].as_str(), "crate" | "super") {
            self.uses.insert(absolute(self.module, &names));
        }
        syn::visit::visit_path(self, path);
    }

    /// `pub(super)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}
}

fn this_crate() -> Crate {
    let mut all = Crate::default();
    all.read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"), Vec::new());
    all
}

/// The modules that can be reached from one, itself only by a circle.
fn reachable<'a>(
    graph: &'a BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
    from: &'a Vec<String>,
) -> BTreeSet<&'a Vec<String>> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Vec<String>> = graph[from].iter().collect();
    while let Some(path) = next.pop() {
        if reached.insert(path) {
            next.extend(&graph[path]);
        }
    }
    reached
}

#[test]
fn no_file_uses_itself_through_others() {
    let graph = this_crate().graph();
    assert!(graph.len() > 50, "{}", graph.len());
    let within = |path: &Vec<String>, other: &Vec<String>| {
        reachable(&graph, path).contains(other) && reachable(&graph, other).contains(path)
    };
    let circles: Vec<String> = graph
        .iter()
        .flat_map(|(path, used)| used.iter().map(move |used| (path, used)))
        .filter(|(path, used)| within(path, used))
        .map(|(path, used)| format!("{} -> {}", path.join("::"), used.join("::")))
        .collect();
    assert!(circles.is_empty(), "part of a circle:\n{}", circles.join("\n"));
}

#[test]
fn the_contract_and_the_wire_use_nothing_above_them() {
    let below = |room: &str| match room {
        "wire" => &["channel", "error", "message", "wire"][..],
        _ => &["channel", "config", "driver", "error", "message", "runtime", "wire"],
    };
    for (path, used) in this_crate().graph() {
        let Some(room) = path.first().filter(|room| ["driver", "wire"].contains(&room.as_str())) else {
            continue;
        };
        for used in used {
            assert!(below(room).contains(&used[0].as_str()), "{path:?} uses {used:?}");
        }
    }
}

#[test]
fn a_circle_would_be_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("lib.rs", "mod one; mod two; pub use two::Two;");
    write("one.rs", "use crate::Two; pub struct One(Two);");
    write("two.rs", "pub struct Two; impl Two { fn one(&self) -> crate::one::One { todo!() } }");
    let mut all = Crate::default();
    all.read(&folder.path().join("lib.rs"), Vec::new());
    let (one, two) = (vec!["one".to_owned()], vec!["two".to_owned()]);
    let graph = all.graph();
    assert!(graph[&one].contains(&two) && graph[&two].contains(&one), "{graph:?}");
    assert!(reachable(&graph, &one).contains(&one));
}
