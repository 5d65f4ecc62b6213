//! Keys: what the attribute of a type or variant gives, its name on the wire and the path of the crate.

use syn::{Attribute, LitStr, Path};

use crate::name;

/// What `#[model(…)]` or `#[fault(…)]` gives.
#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) name: Option<LitStr>,
    pub(crate) krate: Option<Path>,
}

impl Keys {
    /// Reads the attributes of that word.
    pub(crate) fn of(attributes: &[Attribute], word: &str) -> syn::Result<Self> {
        let mut keys = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(word)) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    keys.name = Some(name::checked(meta.value()?.parse()?, &format!("a {word}'s name"))?);
                } else if meta.path.is_ident("crate") {
                    keys.krate = Some(meta.value()?.parse::<LitStr>()?.parse()?);
                } else {
                    let remedy = format!("write #[{word}(name = \"…\")] or #[{word}(crate = \"…\")]");
                    return Err(meta.error(format!("unknown key; {remedy}")));
                }
                Ok(())
            })?;
        }
        Ok(keys)
    }
}
