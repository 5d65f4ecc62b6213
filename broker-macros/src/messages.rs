//! `#[derive(Messages)]`: an enum with a variant for each type of message on a channel.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, Ident, Path, Type, Variant, spanned::Spanned};

use crate::path;

/// A variant for one type of message, or for all others.
struct Part<'a> {
    ident: &'a Ident,
    payload: &'a Type,
    other: bool,
}

pub(crate) fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    if !input.generics.params.is_empty() {
        let message = "Messages cannot be derived for a generic enum: write an enum for each instance";
        return Err(syn::Error::new_spanned(&input.generics, message));
    }
    let Data::Enum(data) = &input.data else {
        let message = "Messages is derived for an enum with a variant for each type of message: \
                       enum Chat { Said(Received<Said>), Left(Received<Left>) }";
        return Err(syn::Error::new_spanned(&input.ident, message));
    };
    let krate = path::given(&input.attrs, "messages", REMEDY)?.unwrap_or_else(path::of_messages);
    let parts: Vec<Part<'_>> = data.variants.iter().map(part).collect::<syn::Result<_>>()?;
    let (others, parts): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.other);
    if let [_, second, ..] = &others[..] {
        let message = "one variant takes all other messages: mark only one with #[messages(other)]";
        return Err(syn::Error::new(second.ident.span(), message));
    }
    if parts.is_empty() {
        let message = "add a variant for each type of message: Said(Received<Said>)";
        return Err(syn::Error::new_spanned(&input.ident, message));
    }
    Ok(implementation(&krate, &input.ident, &parts, others.first()))
}

fn implementation(krate: &Path, ident: &Ident, parts: &[Part<'_>], other: Option<&Part<'_>>) -> TokenStream {
    let name = ident.to_string();
    let payloads: Vec<_> = parts.iter().map(|part| part.payload).collect();
    let variants: Vec<_> = parts.iter().map(|part| part.ident).collect();
    let rest = match other {
        Some(Part { ident: other, payload, .. }) => {
            // With the span of the payload, so that the error about another type stands there.
            let message = quote::quote_spanned!(payload.span()=> message);
            quote!(::core::result::Result::Ok(Self::#other(#message)))
        }
        None => quote! {
            ::core::result::Result::Err(#krate::StreamError::WrongType { expected: #name, message })
        },
    };
    let repeated = format!(
        "two variants of `{name}` are for types with one name: give one of them another, by #[model(name = \"…\")]"
    );
    quote! {
        impl #krate::Messages for #ident {
            const NAMES: &'static [&'static str] = &[#(<#payloads as #krate::MessagePart>::NAME),*];

            fn from_message(
                message: #krate::Message,
            ) -> ::core::result::Result<Self, #krate::StreamError> {
                #(
                    if message.type_name() == ::core::option::Option::Some(<#payloads as #krate::MessagePart>::NAME) {
                        return <#payloads as #krate::MessagePart>::from_message(message).map(Self::#variants);
                    }
                )*
                #rest
            }
        }

        const _: () = ::core::assert!(
            <#ident as #krate::Messages>::NAMES_DIFFER,
            #repeated
        );
    }
}

fn part(variant: &Variant) -> syn::Result<Part<'_>> {
    let mut other = false;
    for attribute in variant.attrs.iter().filter(|attribute| attribute.path().is_ident("messages")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("other") {
                return Err(
                    meta.error("unknown key; a variant for all other messages is marked #[messages(other)]")
                );
            }
            other = true;
            Ok(())
        })?;
    }
    let payload = match &variant.fields {
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => &fields.unnamed[0].ty,
        _ if other => {
            let message =
                format!("a variant for all other messages holds the message: {}(Message)", variant.ident);
            return Err(syn::Error::new_spanned(variant, message));
        }
        _ => {
            let ident = &variant.ident;
            let message = format!(
                "a variant holds one message: {ident}(Received<{ident}>), or {ident}({ident}) if the type is Clone"
            );
            return Err(syn::Error::new_spanned(variant, message));
        }
    };
    Ok(Part { ident: &variant.ident, payload, other })
}

const REMEDY: &str = "#[messages(crate = \"…\")], or #[messages(other)] at a variant";

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
            #[messages(crate = "broker_core")]
            enum Chat {
                Said(Received<Said>),
                Left(Left),
            }
        ));
        assert!(tokens.contains("< Received < Said > as broker_core :: MessagePart > :: NAME"), "{tokens}");
        assert!(tokens.contains(". map (Self :: Left)"), "{tokens}");
        assert!(tokens.contains("WrongType { expected : \"Chat\""), "{tokens}");
    }

    #[test]
    fn all_others_may_have_a_variant() {
        let tokens = expanded(&parse_quote!(
            enum Chat {
                Said(Received<Said>),
                #[messages(other)]
                Other(Message),
            }
        ));
        assert!(tokens.contains("Self :: Other (message)") && !tokens.contains("WrongType"), "{tokens}");
    }

    #[test]
    fn bad_input_is_named() {
        for (input, word) in [
            ("struct Chat(Said);", "an enum with a variant"),
            ("enum Chat<T> { Said(T) }", "generic"),
            ("enum Chat {}", "add a variant"),
            ("enum Chat { #[messages(other)] Other(Message) }", "add a variant"),
            ("enum Chat { Said }", "Said(Received<Said>)"),
            ("enum Chat { Said { text: String } }", "Said(Received<Said>)"),
            ("enum Chat { #[messages(rest)] Said(Said) }", "unknown key"),
            ("#[messages(name = \"x\")] enum Chat { Said(Said) }", "unknown key"),
            ("enum Chat { Said(Said), #[messages(other)] A }", "A(Message)"),
            (
                "enum Chat { Said(Said), #[messages(other)] A(Message), #[messages(other)] B(Message) }",
                "only one",
            ),
        ] {
            let error = expanded(&syn::parse_str(input).unwrap());
            assert!(error.contains(word), "{input}: {error}");
        }
    }
}
