//! `#[derive(Model)]`: gives a type its name on the wire. Applications use it through the crate `broker`, which
//! exports it beside the trait of the same name.

use proc_macro::TokenStream;
use quote::quote;
use syn::{DeriveInput, LitStr, Path, parse_macro_input, parse_quote};

/// Implements `Model` for a type that serde can encode.
///
/// The name on the wire is the type's own, or the one given by `#[model(name = "…")]`: 1 to 255 bytes.
/// `#[model(crate = "…")]` names the crate the trait is found in, by default `broker`. A generic
/// type needs a name for each of its instances: implement `Model` by hand for those.
#[proc_macro_derive(Model, attributes(model))]
pub fn derive_model(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    if !input.generics.params.is_empty() {
        let message = "Model cannot be derived for a generic type: implement it for each instance, with a name of its own";
        return Err(syn::Error::new_spanned(&input.generics, message));
    }
    let ident = &input.ident;
    let mut name = LitStr::new(&ident.to_string(), ident.span());
    let mut krate: Path = parse_quote!(::broker);
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("model")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("name") {
                name = meta.value()?.parse()?;
            } else if meta.path.is_ident("crate") {
                krate = meta.value()?.parse::<LitStr>()?.parse()?;
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
    Ok(quote! {
        impl #krate::Model for #ident {
            const NAME: &'static str = #name;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(input: &DeriveInput) -> String {
        expand(input).map_or_else(|error| error.to_string(), |tokens| tokens.to_string())
    }

    #[test]
    fn the_name_is_the_types_own_or_the_given_one() {
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
