//! `#[derive(Fault)]`: an error that travels to a client under a name.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Attribute, Data, DataEnum, DeriveInput, Fields, Ident, LitStr, Meta, Path, Token, Variant,
    punctuated::Punctuated,
};

use crate::{keys::Keys, name, path};

/// What serde must not do to an enum, and to a variant: their data would not be where they are looked for.
const NOT_OF_ENUMS: &[&str] = &["tag", "content", "untagged", "from", "try_from", "into", "remote"];
const NOT_OF_VARIANTS: &[&str] = &["untagged", "other", "skip", "skip_serializing", "skip_deserializing"];

pub(crate) fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    if !input.generics.params.is_empty() {
        let message = "Fault cannot be derived for a generic type: implement it for each instance, with a name of its own";
        return Err(syn::Error::new_spanned(&input.generics, message));
    }
    let Keys { name, krate } = Keys::of(&input.attrs, "fault")?;
    let krate = krate.unwrap_or_else(path::of_streams);
    match &input.data {
        Data::Struct(_) => {
            let name = name.unwrap_or_else(|| name::of(&input.ident));
            Ok(of_struct(&krate, &input.ident, &name))
        }
        Data::Enum(data) => {
            if let Some(name) = name {
                let message = "each variant of an enum has a name of its own: write #[fault(name = \"…\")] at a variant";
                return Err(syn::Error::new_spanned(name, message));
            }
            of_enum(&krate, input, data)
        }
        Data::Union(_) => {
            Err(syn::Error::new_spanned(&input.ident, "a union is no error that serde can write"))
        }
    }
}

fn of_struct(krate: &Path, ident: &Ident, name: &LitStr) -> TokenStream {
    quote! {
        impl #krate::Fault for #ident {
            fn class_name(&self) -> ::std::borrow::Cow<'static, str> {
                ::std::borrow::Cow::Borrowed(#name)
            }

            fn encode(&self) -> ::core::result::Result<::std::string::String, #krate::derived::JsonError> {
                #krate::derived::write(self)
            }

            fn decode(
                class_name: &str,
                json: &str,
            ) -> ::core::option::Option<::core::result::Result<Self, #krate::Unreadable>> {
                (class_name == #name).then(|| #krate::derived::read(json))
            }
        }
    }
}

fn of_enum(krate: &Path, input: &DeriveInput, data: &DataEnum) -> syn::Result<TokenStream> {
    check_serde(&input.attrs, NOT_OF_ENUMS)?;
    if data.variants.is_empty() {
        return Err(syn::Error::new_spanned(&input.ident, "add a variant for each fault"));
    }
    let ident = &input.ident;
    let names: Vec<LitStr> = data.variants.iter().map(variant_name).collect::<syn::Result<_>>()?;
    for (place, name) in names.iter().enumerate() {
        if names[..place].iter().any(|before| before.value() == name.value()) {
            let message = format!("two variants of `{ident}` have this name: give one of them another");
            return Err(syn::Error::new_spanned(name, message));
        }
    }
    let patterns = data.variants.iter().map(|Variant { ident, fields, .. }| match fields {
        Fields::Named(_) => quote!(Self::#ident { .. }),
        Fields::Unnamed(_) => quote!(Self::#ident(..)),
        Fields::Unit => quote!(Self::#ident),
    });
    let places = 0_u32..;
    let places = places.take(names.len());
    Ok(quote! {
        impl #krate::Fault for #ident {
            fn class_name(&self) -> ::std::borrow::Cow<'static, str> {
                ::std::borrow::Cow::Borrowed(match self {
                    #(#patterns => #names,)*
                })
            }

            fn encode(&self) -> ::core::result::Result<::std::string::String, #krate::derived::JsonError> {
                #krate::derived::write_variant(self)
            }

            fn decode(
                class_name: &str,
                json: &str,
            ) -> ::core::option::Option<::core::result::Result<Self, #krate::Unreadable>> {
                match class_name {
                    #(#names => ::core::option::Option::Some(#krate::derived::read_variant(#places, json)),)*
                    _ => ::core::option::Option::None,
                }
            }
        }
    })
}

fn variant_name(variant: &Variant) -> syn::Result<LitStr> {
    check_serde(&variant.attrs, NOT_OF_VARIANTS)?;
    let keys = Keys::of(&variant.attrs, "fault")?;
    if let Some(krate) = keys.krate {
        let message = "write #[fault(crate = \"…\")] at the enum";
        return Err(syn::Error::new_spanned(krate, message));
    }
    Ok(keys.name.unwrap_or_else(|| name::of(&variant.ident)))
}

/// Serde writes an enum as a tag with data, unless it is told another way.
fn check_serde(attributes: &[Attribute], refused: &[&str]) -> syn::Result<()> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        // What cannot be parsed is for serde to complain about.
        let metas = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
        for meta in metas.into_iter().flatten() {
            if let Some(key) = refused.iter().find(|key| meta.path().is_ident(key)) {
                let message = format!(
                    "Fault cannot be derived where serde has `{key}`: a variant's name travels beside its data, \
                     and serde must write nothing else"
                );
                return Err(syn::Error::new_spanned(meta, message));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn expanded(input: &DeriveInput) -> String {
        expand(input).map_or_else(|error| error.to_string(), |tokens| tokens.to_string())
    }

    #[test]
    fn a_struct_has_its_name_or_that_of_the_attribute() {
        let own = expanded(&parse_quote!(
            #[fault(crate = "broker_model")]
            struct NoSuchPixel {
                index: u32,
            }
        ));
        assert!(own.contains("impl broker_model :: Fault for NoSuchPixel"), "{own}");
        assert!(own.contains("(class_name == \"NoSuchPixel\")"), "{own}");
        let given = expanded(&parse_quote!(
            #[fault(name = "module.NoPixel")]
            struct NoSuchPixel;
        ));
        assert!(given.contains("Borrowed (\"module.NoPixel\")"), "{given}");
    }

    #[test]
    fn each_variant_of_an_enum_has_a_name_and_a_place() {
        let tokens = expanded(&parse_quote!(
            #[serde(rename_all = "camelCase")]
            enum Refused {
                #[fault(name = "TooLate")]
                Late,
                Full {
                    seats: u32,
                },
                Banned(Reason),
            }
        ));
        assert!(tokens.contains("Self :: Late => \"TooLate\""), "{tokens}");
        assert!(tokens.contains("Self :: Full { .. } => \"Full\""), "{tokens}");
        assert!(tokens.contains("Self :: Banned (..) => \"Banned\""), "{tokens}");
        assert!(tokens.contains("read_variant (2u32 , json)"), "{tokens}");
    }

    #[test]
    fn bad_input_is_named() {
        for (input, word) in [
            ("struct Refused<T>(T);", "generic"),
            ("enum Refused<T> { Late(T) }", "generic"),
            ("union Refused { a: u8 }", "union"),
            ("enum Refused {}", "add a variant"),
            ("#[fault(nam = \"x\")] struct Refused;", "unknown key"),
            ("#[fault(name = \"\")] struct Refused;", "1 to 255"),
            ("#[fault(name = \"x\")] enum Refused { Late }", "at a variant"),
            ("enum Refused { #[fault(crate = \"x\")] Late }", "at the enum"),
            ("enum Refused { #[fault(name = \"Full\")] Late, Full }", "two variants"),
            ("#[serde(tag = \"kind\")] enum Refused { Late }", "serde has `tag`"),
            ("#[serde(rename_all = \"camelCase\", untagged)] enum Refused { Late }", "serde has `untagged`"),
            ("enum Refused { #[serde(skip)] Late }", "serde has `skip`"),
        ] {
            let error = expanded(&syn::parse_str(input).unwrap());
            assert!(error.contains(word), "{input}: {error}");
        }
    }
}
