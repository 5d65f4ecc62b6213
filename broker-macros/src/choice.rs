//! `#[derive(Choice)]`: an enum with a variant for each type of item in a stream to or from a client.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, Path, Type, Variant};

use crate::path;

pub(crate) fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    if !input.generics.params.is_empty() {
        let message = "Choice cannot be derived for a generic enum: write an enum for each instance";
        return Err(syn::Error::new_spanned(&input.generics, message));
    }
    let Data::Enum(data) = &input.data else {
        let message = "Choice is derived for an enum with a variant for each type of item: \
                       enum Picture { Whole(ImageData), Pixel(ImageUpdate) }";
        return Err(syn::Error::new_spanned(&input.ident, message));
    };
    if data.variants.is_empty() {
        let message = "add a variant for each type of item: Whole(ImageData)";
        return Err(syn::Error::new_spanned(&input.ident, message));
    }
    let krate = crate_path(input)?.unwrap_or_else(path::of_streams);
    let ident = &input.ident;
    let types: Vec<&Type> = data.variants.iter().map(held).collect::<syn::Result<_>>()?;
    let variants: Vec<_> = data.variants.iter().map(|variant| &variant.ident).collect();
    Ok(quote! {
        impl #krate::Value for #ident {
            fn class_name(&self) -> ::std::borrow::Cow<'static, str> {
                match self {
                    #(Self::#variants(value) => <#types as #krate::Wire>::class_name(value),)*
                }
            }

            fn encode(
                &self,
                json: &mut ::std::vec::Vec<u8>,
            ) -> ::core::result::Result<(), #krate::derived::JsonError> {
                match self {
                    #(Self::#variants(value) => #krate::derived::write_value(value, json),)*
                }
            }

            fn decode(class_name: &str, json: &str) -> ::core::result::Result<Self, #krate::Unreadable> {
                #(
                    if <#types as #krate::Wire>::accepts(class_name) {
                        return #krate::derived::read_value(json).map(Self::#variants);
                    }
                )*
                ::core::result::Result::Err(#krate::Unreadable::class(class_name))
            }
        }
    })
}

/// The one type that a variant holds.
fn held(variant: &Variant) -> syn::Result<&Type> {
    match &variant.fields {
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Ok(&fields.unnamed[0].ty),
        _ => {
            let ident = &variant.ident;
            let message = format!("a variant holds one item: {ident}({ident})");
            Err(syn::Error::new_spanned(variant, message))
        }
    }
}

/// The path that `#[choice(crate = "…")]` names.
fn crate_path(input: &DeriveInput) -> syn::Result<Option<Path>> {
    let variants = match &input.data {
        Data::Enum(data) => data.variants.iter().flat_map(|variant| &variant.attrs).collect(),
        _ => Vec::new(),
    };
    if let Some(attribute) = variants.into_iter().find(|attribute| attribute.path().is_ident("choice")) {
        let message = "a variant has no attribute: an item's name is that of its type";
        return Err(syn::Error::new_spanned(attribute, message));
    }
    path::given(&input.attrs, "choice", "#[choice(crate = \"…\")]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn expanded(input: &DeriveInput) -> String {
        expand(input).map_or_else(|error| error.to_string(), |tokens| tokens.to_string())
    }

    #[test]
    fn each_variant_is_for_the_type_it_holds() {
        let tokens = expanded(&parse_quote!(
            #[choice(crate = "broker_model")]
            enum Picture {
                Whole(ImageData),
                Numbers(Vec<i64>),
            }
        ));
        assert!(tokens.contains("impl broker_model :: Value for Picture"), "{tokens}");
        assert!(
            tokens.contains("< Vec < i64 > as broker_model :: Wire > :: accepts (class_name)"),
            "{tokens}"
        );
        assert!(tokens.contains(". map (Self :: Numbers)"), "{tokens}");
    }

    #[test]
    fn bad_input_is_named() {
        for (input, word) in [
            ("struct Picture(ImageData);", "an enum with a variant"),
            ("enum Picture<T> { Whole(T) }", "generic"),
            ("enum Picture {}", "add a variant"),
            ("enum Picture { Whole }", "Whole(Whole)"),
            ("enum Picture { Whole { data: ImageData } }", "Whole(Whole)"),
            ("enum Picture { Whole(ImageData, u8) }", "Whole(Whole)"),
            ("#[choice(name = \"x\")] enum Picture { Whole(ImageData) }", "unknown key"),
            ("enum Picture { #[choice(name = \"x\")] Whole(ImageData) }", "that of its type"),
        ] {
            let error = expanded(&syn::parse_str(input).unwrap());
            assert!(error.contains(word), "{input}: {error}");
        }
    }
}
