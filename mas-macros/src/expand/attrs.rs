//! Which of the user's attributes go along to generated code.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::{Attribute, Ident, Meta, Path};

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

/// The conditions as one, the inside of a `#[cfg]`; nothing where there are none.
pub(crate) fn condition(attrs: &[Attribute]) -> Option<TokenStream> {
    let mut all: Vec<TokenStream> = Vec::new();
    for attr in attrs {
        let Meta::List(list) = &attr.meta else {
            continue;
        };
        if list.path.is_ident("cfg") {
            all.push(list.tokens.clone());
        } else if list.path.is_ident("cfg_attr")
            && let Some((predicate, metas)) = types::cfg_attr(list)
        {
            let cfgs = metas.iter().filter_map(|meta| match meta {
                Meta::List(list) if list.path.is_ident("cfg") => Some(&list.tokens),
                _ => None,
            });
            all.extend(cfgs.map(|cfg| quote!(any(not(#predicate), #cfg))));
        }
    }
    (!all.is_empty()).then(|| quote!(all(#(#all),*)))
}

/// The conditions: `#[cfg]`, also inside `#[cfg_attr]`.
pub(crate) fn conditions(attrs: &[Attribute]) -> Vec<TokenStream> {
    carried(attrs, |path| path.is_ident("cfg"))
}

/// What goes along to an impl block beside the user's: conditions and levels of lints.
pub(crate) fn for_block(attrs: &[Attribute]) -> Vec<TokenStream> {
    carried(attrs, |path| path.is_ident("cfg") || is_level(path))
}

/// What goes along to a typed call: conditions, docs, levels of lints, deprecation. A link in the docs is written for
/// the agent, and need not lead anywhere from its ref.
pub(crate) fn for_call(attrs: &[Attribute]) -> Vec<TokenStream> {
    let mut carried = carried(attrs, |path| {
        is_level(path)
            || ["cfg", "doc", "deprecated"]
                .iter()
                .any(|name| path.is_ident(name))
    });
    if documented(attrs) {
        carried.push(quote! {
            #[allow(rustdoc::broken_intra_doc_links, rustdoc::private_intra_doc_links)]
        });
    }
    carried
}

/// What goes along to an item beside the user's: conditions, levels of lints, deprecation, and being hidden.
pub(crate) fn for_item(attrs: &[Attribute]) -> Vec<TokenStream> {
    let mut carried = carried(attrs, |path| {
        is_level(path) || path.is_ident("cfg") || path.is_ident("deprecated")
    });
    let hidden = |attr: &&Attribute| matches!(&attr.meta, Meta::List(list) if list.path.is_ident("doc") && list.tokens.to_string() == "hidden");
    carried.extend(attrs.iter().find(hidden).map(ToTokens::to_token_stream));
    carried
}

/// Whether an attribute sets the level of a lint.
fn is_level(path: &Path) -> bool {
    ["allow", "expect", "warn", "deny", "forbid"]
        .iter()
        .any(|name| path.is_ident(name))
}

/// Whether the user documents something.
pub(crate) fn documented(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| attr.path().is_ident("doc"))
}

/// The attributes that `wanted` says yes to; a `cfg_attr` keeps those of its attributes. An inner attribute becomes an
/// outer one.
fn carried(attrs: &[Attribute], wanted: impl Fn(&Path) -> bool) -> Vec<TokenStream> {
    let mut carried = Vec::new();
    for attr in attrs {
        if wanted(attr.path()) {
            let meta = elsewhere(&attr.meta);
            carried.push(quote!(#[#meta]));
        } else if let Meta::List(list) = &attr.meta
            && list.path.is_ident("cfg_attr")
            && let Some((predicate, mut metas)) = types::cfg_attr(list)
        {
            metas.retain(|meta| wanted(meta.path()));
            if !metas.is_empty() {
                let metas = metas.iter().map(elsewhere);
                carried.push(quote!(#[cfg_attr(#predicate, #(#metas),*)]));
            }
        }
    }
    carried
}

/// An attribute as it stands on generated code: what is expected of the user's code need not happen there, what nobody
/// may allow is still quiet where its user can do nothing about it, and the code in docs is tested once.
fn elsewhere(meta: &Meta) -> TokenStream {
    let word = match meta.path() {
        path if path.is_ident("doc") => return quote!(cfg_attr(not(doctest), #meta)),
        path if path.is_ident("expect") => "allow",
        path if path.is_ident("forbid") => "deny",
        _ => return meta.to_token_stream(),
    };
    let mut meta = meta.clone();
    if let Meta::List(list) = &mut meta {
        let span = list.path.span();
        list.path = Ident::new(word, span).into();
    }
    meta.into_token_stream()
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
        let one = condition(&attrs).map(|condition| condition.to_string());
        assert_eq!(one.as_deref(), Some("all (any (not (unix) , a) , b)"));
        assert!(condition(&attrs[..1]).is_none());
    }

    #[test]
    fn levels_go_along_and_foreign_attributes_stay() {
        let attrs: Vec<Attribute> = vec![
            parse_quote!(#[expect(unused, reason = "not yet")]),
            parse_quote!(#[tracing::instrument]),
            parse_quote!(#![allow(unused)]),
            parse_quote!(#[cfg_attr(x, forbid(missing_docs), inline)]),
        ];
        let texts: Vec<String> = for_block(&attrs).iter().map(ToString::to_string).collect();
        let expected = [
            "# [allow (unused , reason = \"not yet\")]",
            "# [allow (unused)]",
            "# [cfg_attr (x , deny (missing_docs))]",
        ];
        assert_eq!(texts, expected);
        assert_eq!(for_call(&attrs).len(), 3);
        assert_eq!(for_item(&attrs).len(), 3);
    }

    #[test]
    fn the_code_in_docs_is_tested_where_it_was_written() {
        let attrs: Vec<Attribute> = vec![
            parse_quote!(#[doc = "See [`Self::other`]."]),
            parse_quote!(#[cfg_attr(x, doc = "More.")]),
        ];
        let texts: Vec<String> = for_call(&attrs).iter().map(ToString::to_string).collect();
        let expected = [
            "# [cfg_attr (not (doctest) , doc = \"See [`Self::other`].\")]",
            "# [cfg_attr (x , cfg_attr (not (doctest) , doc = \"More.\"))]",
            "# [allow (rustdoc :: broken_intra_doc_links , rustdoc :: private_intra_doc_links)]",
        ];
        assert_eq!(texts, expected);
    }
}
