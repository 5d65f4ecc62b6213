//! `#[derive(Model)]` gives a type its name on the wire; `#[derive(Messages)]` reads a channel of several types as an enum.
//! `#[derive(Choice)]` does so with a stream to or from a client, and `#[derive(Fault)]` lets an error travel in it.
//! Applications use them through `broker` (the package `broker-rs`), `broker-streams` and `broker-streams-client`,
//! which export them beside the traits of the same names; `Choice` implements `Value`.

mod choice;
mod fault;
mod keys;
mod messages;
mod name;
mod path;

use keys::Keys;
use proc_macro::TokenStream;
use quote::quote;
use syn::{DeriveInput, parse_macro_input};

/// Implements `Model` for a type that serde can encode.
///
/// The name on the wire is the type's own, or the one given by `#[model(name = "…")]`: 1 to 255 bytes.
/// A generic type needs a name for each of its instances: implement `Model` by hand for those.
///
/// The trait is found by the manifest of the crate that is compiled: through the first of `broker-rs`, `broker-core`,
/// `broker-model`, `broker-streams` and `broker-streams-client` on which it depends, also under another name.
/// `#[model(crate = "…")]` names the path instead, for a crate that depends on none, or on the first for its tests only.
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

/// Implements `Fault` for an error that travels to a client as what it is.
///
/// A struct travels under its own name, or the one given by `#[fault(name = "…")]`; of an enum each variant does, and the
/// attribute stands at the variant: 1 to 255 bytes. Serde writes the data, by implementations that are derived; a variant's
/// name is not among them, so that an enum has no `#[serde(tag = "…")]` or `untagged`, and a variant no `skip`. A generic
/// type needs a name for each of its instances: implement `Fault` by hand for those.
///
/// The trait is found by the manifest of the crate that is compiled: through the first of `broker-streams`,
/// `broker-streams-client` and `broker-model` on which it depends, also under another name. `#[fault(crate = "…")]` names
/// the path instead, for a crate that depends on none, or on the first for its tests only.
#[proc_macro_derive(Fault, attributes(fault))]
pub fn derive_fault(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    fault::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Implements `Value` for an enum with a variant for each type of item in a stream to or from a client.
///
/// A variant holds one type that is `Wire`, and travels under the name of that. An item is read as the first variant whose
/// type accepts its name. `#[choice(crate = "…")]` at the enum names the path of the crate, as with `Fault`.
#[proc_macro_derive(Choice, attributes(choice))]
pub fn derive_choice(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    choice::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    if !input.generics.params.is_empty() {
        let message = "Model cannot be derived for a generic type: implement it for each instance, with a name of its own";
        return Err(syn::Error::new_spanned(&input.generics, message));
    }
    let ident = &input.ident;
    let Keys { name, krate } = Keys::of(&input.attrs, "model")?;
    let name = name.unwrap_or_else(|| name::of(ident));
    let krate = krate.unwrap_or_else(path::of_model);
    Ok(quote! {
        impl #krate::Model for #ident {
            const NAME: &'static str = #name;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

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
