//! Which of the user's attributes go along to generated code.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Meta, Path};

use crate::model::types;

/// Lints that generated code may trip over and that its user can do nothing about.
pub(crate) fn quiet() -> TokenStream {
    quote! {
        #[allow(
            dead_code,
            deprecated,
            private_bounds,
            private_interfaces,
            unreachable_pub,
            unused_mut,
            unused_qualifications,
            clippy::all,
            clippy::nursery,
            clippy::pedantic
        )]
    }
}

/// Whether something is there only under a condition.
pub(crate) fn conditional(attrs: &[Attribute]) -> bool {
    !conditions(attrs).is_empty()
}

/// The conditions: `#[cfg]`, also inside `#[cfg_attr]`.
pub(crate) fn conditions(attrs: &[Attribute]) -> Vec<TokenStream> {
    carried(attrs, |path| path.is_ident("cfg"))
}

/// What goes along to a typed call: conditions, docs, levels of lints, deprecation.
pub(crate) fn for_call(attrs: &[Attribute]) -> Vec<TokenStream> {
    carried(attrs, |path| {
        ["cfg", "doc", "allow", "warn", "deny", "deprecated"]
            .iter()
            .any(|name| path.is_ident(name))
    })
}

/// What goes along to an item beside the user's: conditions, levels of lints, deprecation, and being hidden.
pub(crate) fn for_item(attrs: &[Attribute]) -> Vec<TokenStream> {
    let mut carried = carried(attrs, |path| {
        ["cfg", "allow", "warn", "deny", "deprecated"]
            .iter()
            .any(|name| path.is_ident(name))
    });
    let hidden = |attr: &&Attribute| matches!(&attr.meta, Meta::List(list) if list.path.is_ident("doc") && list.tokens.to_string() == "hidden");
    carried.extend(attrs.iter().find(hidden).map(ToTokens::to_token_stream));
    carried
}

/// Whether the user documents something.
pub(crate) fn documented(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| attr.path().is_ident("doc"))
}

/// The attributes that `wanted` says yes to; a `cfg_attr` keeps those of its attributes.
fn carried(attrs: &[Attribute], wanted: impl Fn(&Path) -> bool) -> Vec<TokenStream> {
    let mut carried = Vec::new();
    for attr in attrs {
        if wanted(attr.path()) {
            carried.push(attr.to_token_stream());
        } else if let Meta::List(list) = &attr.meta
            && list.path.is_ident("cfg_attr")
            && let Some((predicate, mut metas)) = types::cfg_attr(list)
        {
            metas.retain(|meta| wanted(meta.path()));
            if !metas.is_empty() {
                carried.push(quote!(#[cfg_attr(#predicate, #(#metas),*)]));
            }
        }
    }
    carried
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn conditions_are_found_inside_cfg_attr() {
        let attrs: Vec<Attribute> = vec![
            parse_quote!(#[doc = "x"]),
            parse_quote!(#[cfg_attr(unix, cfg(a), tracing::instrument)]),
            parse_quote!(#[cfg(b)]),
        ];
        let texts: Vec<String> = conditions(&attrs).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["# [cfg_attr (unix , cfg (a))]", "# [cfg (b)]"]);
    }

    #[test]
    fn expectations_and_foreign_attributes_stay_on_the_method() {
        let attrs: Vec<Attribute> = vec![
            parse_quote!(#[expect(unused)]),
            parse_quote!(#[tracing::instrument]),
            parse_quote!(#[allow(unused)]),
            parse_quote!(#[deprecated]),
        ];
        assert_eq!(for_call(&attrs).len(), 2);
    }
}
