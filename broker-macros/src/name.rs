//! Names on the wire: that of a type, or one that an attribute gives.

use syn::{Ident, LitStr, ext::IdentExt};

/// The name of a type or variant itself.
pub(crate) fn of(ident: &Ident) -> LitStr {
    LitStr::new(&ident.unraw().to_string(), ident.span())
}

/// A name, if it has a length that the wire can carry.
pub(crate) fn checked(name: LitStr, what: &str) -> syn::Result<LitStr> {
    if name.value().is_empty() || name.value().len() > 255 {
        return Err(syn::Error::new_spanned(&name, format!("{what} has 1 to 255 bytes")));
    }
    Ok(name)
}
