//! `#[derive(Model)]` gives a type its name on the wire; `#[derive(Messages)]` reads a channel of several types as an enum.
//! Applications use them through `broker` (the package
//! `broker-rs`), which exports them beside the traits of the same names.

mod messages;

use proc_macro::TokenStream;
use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::Span;
use quote::quote;
use syn::{DeriveInput, Ident, LitStr, Path, parse_macro_input, parse_quote};

/// Implements `Model` for a type that serde can encode.
///
/// The name on the wire is the type's own, or the one given by `#[model(name = "…")]`: 1 to 255 bytes.
/// A generic type needs a name for each of its instances: implement `Model` by hand for those.
///
/// The trait is found by the manifest of the crate that is compiled: through `broker-rs`, or without it through
/// `broker-core`, each also under another name. `#[model(crate = "…")]` names the path instead, for a crate that
/// depends on neither, or on one of them for its tests only.
#[proc_macro_derive(Model, attributes(model))]
pub fn derive_model(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Implements `Messages` for an enum with a variant for each type of message on a channel.
///
/// A variant holds `Received<T>`, or `T` if that is `Clone`, where `T` is a `Model`. At most one is marked
/// `#[messages(other)]`, and holds the `Message` of any other type. `#[messages(crate = "…")]` at the enum names the path of
/// the crate, as with `Model`.
#[proc_macro_derive(Messages, attributes(messages))]
pub fn derive_messages(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    messages::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    if !input.generics.params.is_empty() {
        let message = "Model cannot be derived for a generic type: implement it for each instance, with a name of its own";
        return Err(syn::Error::new_spanned(&input.generics, message));
    }
    let ident = &input.ident;
    let mut name = LitStr::new(&ident.to_string(), ident.span());
    let mut krate: Option<Path> = None;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("model")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("name") {
                name = meta.value()?.parse()?;
            } else if meta.path.is_ident("crate") {
                krate = Some(meta.value()?.parse::<LitStr>()?.parse()?);
            } else {
                return Err(
                    meta.error("unknown key; write #[model(name = \"…\")] or #[model(crate = \"…\")]")
                );
            }
            Ok(())
        })?;
    }
    if name.value().is_empty() || name.value().len() > 255 {
        return Err(syn::Error::new_spanned(&name, "a model's name has 1 to 255 bytes"));
    }
    let krate = krate.unwrap_or_else(found);
    Ok(quote! {
        impl #krate::Model for #ident {
            const NAME: &'static str = #name;
        }
    })
}

/// The path of the crate that has the trait, by the name that the manifest of the user gives it.
fn found() -> Path {
    let facade = crate_name("broker-rs").map(|found| extern_name(found, "broker_rs", "broker"));
    let found = facade
        .or_else(|_| crate_name("broker-core").map(|found| extern_name(found, "broker_core", "broker_core")));
    // Found in no manifest, for instance in a build without cargo: the name that the documentation uses.
    let name = Ident::new(&found.unwrap_or_else(|_| "broker".to_owned()), Span::call_site());
    parse_quote!(::#name)
}

/// The name of a crate in code: what it was renamed to, or else that of its library, which is not the name of its
/// package. The tests and examples of a package name its library as well.
fn extern_name(found: FoundCrate, package: &str, library: &str) -> String {
    match found {
        FoundCrate::Name(name) if name != package => name,
        FoundCrate::Name(_) | FoundCrate::Itself => library.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(input: &DeriveInput) -> String {
        expand(input).map_or_else(|error| error.to_string(), |tokens| tokens.to_string())
    }

    #[test]
    fn the_name_is_the_type_or_the_attribute() {
        assert!(
            expanded(&parse_quote!(
                struct Pixel {
                    x: u8,
                }
            ))
            .contains("\"Pixel\"")
        );
        let renamed = parse_quote!(
            #[model(name = "pixel-added")]
            struct Pixel;
        );
        assert!(expanded(&renamed).contains("\"pixel-added\""));
        let elsewhere = expanded(&parse_quote!(
            #[model(crate = "broker_core")]
            struct Pixel;
        ));
        assert!(elsewhere.contains("broker_core :: Model"), "{elsewhere}");
    }

    #[test]
    fn a_crate_has_the_name_it_was_given_or_that_of_its_library() {
        let name = |found| extern_name(found, "broker_rs", "broker");
        assert_eq!(name(FoundCrate::Name("messages".to_owned())), "messages");
        assert_eq!(name(FoundCrate::Name("broker".to_owned())), "broker");
        assert_eq!(name(FoundCrate::Name("broker_rs".to_owned())), "broker");
        assert_eq!(name(FoundCrate::Itself), "broker");
    }

    #[test]
    fn bad_input_is_named() {
        assert!(
            expanded(&parse_quote!(
                struct Pixel<T>(T);
            ))
            .contains("generic")
        );
        assert!(
            expanded(&parse_quote!(
                #[model(nam = "x")]
                struct Pixel;
            ))
            .contains("unknown key")
        );
        assert!(
            expanded(&parse_quote!(
                #[model(name = "")]
                struct Pixel;
            ))
            .contains("1 to 255")
        );
    }
}
