//! Where the traits are: the path of a crate that has them, by the name that the manifest of the user gives it.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::Span;
use syn::{Attribute, Ident, LitStr, Path, parse_quote};

/// The crates of the library that have `Messages`, by their packages.
const MESSAGES: &[&str] = &["broker-rs", "broker-core"];
/// Those that have `Model`.
const MODEL: &[&str] =
    &["broker-rs", "broker-core", "broker-model", "broker-streams", "broker-streams-client"];
/// Those that have what travels in streams to clients.
const STREAMS: &[&str] = &["broker-streams", "broker-streams-client", "broker-model"];

pub(crate) fn of_messages() -> Path {
    found(MESSAGES)
}

pub(crate) fn of_model() -> Path {
    found(MODEL)
}

pub(crate) fn of_streams() -> Path {
    found(STREAMS)
}

/// The path that `#[name(crate = "…")]` names, the only key that there is at the type itself; another key is refused with
/// what to write.
pub(crate) fn given(attributes: &[Attribute], name: &str, remedy: &str) -> syn::Result<Option<Path>> {
    let mut path = None;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(name)) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error(format!("unknown key; write {remedy}")));
            }
            path = Some(meta.value()?.parse::<LitStr>()?.parse()?);
            Ok(())
        })?;
    }
    Ok(path)
}

/// The path of the first of the packages on which the user depends.
fn found(packages: &[&str]) -> Path {
    let mut found =
        packages.iter().filter_map(|package| Some(extern_name(crate_name(package).ok()?, package)));
    // Found in no manifest, for instance in a build without cargo: the name that the documentation uses.
    let name = found.next().unwrap_or_else(|| library(packages[0]));
    let name = Ident::new(&name, Span::call_site());
    parse_quote!(::#name)
}

/// The name of a package's library, which is not always its own.
fn library(package: &str) -> String {
    if package == "broker-rs" { "broker".to_owned() } else { package.replace('-', "_") }
}

/// The name of a crate in code: what it was renamed to, or else that of its library. The tests and examples of a
/// package name its library as well.
fn extern_name(found: FoundCrate, package: &str) -> String {
    match found {
        FoundCrate::Name(name) if name != package.replace('-', "_") => name,
        FoundCrate::Name(_) | FoundCrate::Itself => library(package),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_has_the_name_it_was_given_or_that_of_its_library() {
        let name = |found| extern_name(found, "broker-rs");
        assert_eq!(name(FoundCrate::Name("messages".to_owned())), "messages");
        assert_eq!(name(FoundCrate::Name("broker".to_owned())), "broker");
        assert_eq!(name(FoundCrate::Name("broker_rs".to_owned())), "broker");
        assert_eq!(name(FoundCrate::Itself), "broker");
        assert_eq!(extern_name(FoundCrate::Itself, "broker-streams"), "broker_streams");
        assert_eq!(extern_name(FoundCrate::Name("broker_model".to_owned()), "broker-model"), "broker_model");
    }
}
