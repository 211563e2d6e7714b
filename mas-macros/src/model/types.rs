//! What a type says, as far as its tokens tell: the last word of its path, its arguments, its lifetimes.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{ParseStream, Parser};
use syn::{
    Expr, GenericArgument, Meta, MetaList, PathArguments, PathSegment, Token, TraitBound, Type,
    TypeImplTrait, TypeParamBound,
};

/// A type without the parentheses around it.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Paren(paren) => bare(&paren.elem),
        Type::Group(group) => bare(&group.elem),
        other => other,
    }
}

/// The last segment of a type that is a path.
pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match bare(ty) {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

/// Whether a type's last word is `name`.
pub(crate) fn is_named(ty: &Type, name: &str) -> bool {
    last_segment(ty).is_some_and(|segment| segment.ident == name)
}

/// The first type among the arguments of a path segment.
pub(crate) fn first_argument(segment: &PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// The bound of an `impl Trait` type whose last word is `name`.
pub(crate) fn bound_named<'a>(ty: &'a TypeImplTrait, name: &str) -> Option<&'a TraitBound> {
    ty.bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound)
            if bound
                .path
                .segments
                .last()
                .is_some_and(|last| last.ident == name) =>
        {
            Some(bound)
        }
        _ => None,
    })
}

/// The type that a bound gives to an associated type: `T` of `Stream<Item = T>`.
pub(crate) fn associated<'a>(bound: &'a TraitBound, name: &str) -> Option<&'a Type> {
    let PathArguments::AngleBracketed(arguments) = &bound.path.segments.last()?.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(assoc) if assoc.ident == name => Some(&assoc.ty),
        _ => None,
    })
}

/// The token of `impl` in a type, wherever it stands.
pub(crate) fn impl_token(ty: &Type) -> Option<TokenTree> {
    find(
        ty.to_token_stream(),
        &|token| matches!(token, TokenTree::Ident(ident) if ident == "impl"),
    )
}

/// The first token in a type that borrows for less than `'static`: a lifetime, or a `&` without one.
pub(crate) fn borrowed(ty: &Type) -> Option<TokenTree> {
    borrowed_in(ty.to_token_stream())
}

/// As `borrowed`, in tokens. A type with a `for<..>` brings its own lifetimes, and is left to the compiler.
fn borrowed_in(tokens: TokenStream) -> Option<TokenTree> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_punct = |index: usize, char: char| matches!(tokens.get(index), Some(TokenTree::Punct(punct)) if punct.as_char() == char);
    let is_word = |index: usize, word: &str| matches!(tokens.get(index), Some(TokenTree::Ident(ident)) if ident == word);
    if (0..tokens.len()).any(|index| is_word(index, "for")) {
        return None;
    }
    (0..tokens.len()).find_map(|index| match &tokens[index] {
        TokenTree::Group(group) => borrowed_in(group.stream()),
        token if is_punct(index, '&') && !is_punct(index + 1, '\'') => Some(token.clone()),
        _ if is_punct(index, '\'') && !is_word(index + 1, "static") => {
            tokens.get(index + 1).cloned()
        }
        _ => None,
    })
}

/// The first token that `wanted` says yes to.
fn find(tokens: TokenStream, wanted: &impl Fn(&TokenTree) -> bool) -> Option<TokenTree> {
    tokens.into_iter().find_map(|token| match token {
        token if wanted(&token) => Some(token),
        TokenTree::Group(group) => find(group.stream(), wanted),
        _ => None,
    })
}

/// A type's tokens with every `Self` replaced, for use outside the impl block.
pub(crate) fn without_self(tokens: TokenStream, agent: &TokenStream) -> TokenStream {
    let mut out = TokenStream::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "Self" => out.extend(agent.clone()),
            TokenTree::Group(group) => {
                let mut inner =
                    proc_macro2::Group::new(group.delimiter(), without_self(group.stream(), agent));
                inner.set_span(group.span());
                out.extend([TokenTree::Group(inner)]);
            }
            other => out.extend([other]),
        }
    }
    out
}

/// The predicate and the attributes of a `cfg_attr(..)`.
pub(crate) fn cfg_attr(list: &MetaList) -> Option<(Meta, Vec<Meta>)> {
    let parser = |input: ParseStream<'_>| {
        let predicate: Meta = input.parse()?;
        let mut metas = Vec::new();
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if !input.is_empty() {
                metas.push(input.parse()?);
            }
        }
        Ok((predicate, metas))
    };
    parser.parse2(list.tokens.clone()).ok()
}

/// The arguments of the last segment of a path, in their order.
pub(crate) fn arguments(segment: &PathSegment) -> Vec<GenericArgument> {
    match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => arguments.args.iter().cloned().collect(),
        _ => Vec::new(),
    }
}

/// The primitive type that a constant argument has, as far as its tokens tell.
pub(crate) fn constant_type(argument: &Expr) -> &'static str {
    match argument {
        Expr::Lit(literal) => match &literal.lit {
            syn::Lit::Bool(_) => "bool",
            syn::Lit::Char(_) => "char",
            _ => "usize",
        },
        _ => "usize",
    }
}

/// A type as text for a message, without the spaces between its tokens.
pub(crate) fn shown(ty: &Type) -> String {
    let text = ty.to_token_stream().to_string();
    [
        (" :: ", "::"),
        (" < ", "<"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        ("& ", "&"),
    ]
    .iter()
    .fold(text, |text, (from, to)| text.replace(from, to))
}

/// Whether two types are written alike.
pub(crate) fn same(left: &Type, right: &Type) -> bool {
    left.to_token_stream().to_string() == right.to_token_stream().to_string()
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn the_last_word_of_a_path_names_a_type() {
        assert!(is_named(&parse_quote!(std::io::Result<u8>), "Result"));
        assert!(is_named(&parse_quote!((Result)), "Result"));
        assert!(!is_named(&parse_quote!(Result<u8>::Other), "Result"));
        assert!(!is_named(&parse_quote!(&Result), "Result"));
    }

    #[test]
    fn a_type_borrows_where_a_lifetime_is_short_or_left_out() {
        for short in [
            parse_quote!(Cow<'_, str>),
            parse_quote!(Vec<&str>),
            parse_quote!((u8, &'a [u8])),
        ] {
            assert!(borrowed(&short).is_some(), "{}", shown(&short));
        }
        for long in [
            parse_quote!(Vec<u8>),
            parse_quote!(Option<&'static str>),
            parse_quote!(Box<dyn for<'a> Fn(&'a u8)>),
        ] {
            assert!(borrowed(&long).is_none(), "{}", shown(&long));
        }
    }

    #[test]
    fn an_unnamed_type_is_found_inside_another() {
        assert!(impl_token(&parse_quote!(Result<(u8, impl Clone)>)).is_some());
        assert!(impl_token(&parse_quote!(Result<implement>)).is_none());
    }

    #[test]
    fn self_is_replaced_wherever_it_stands() {
        let ty: Type = parse_quote!(Pair<[Self; 2], <Self as Trait>::Item>);
        let replaced = without_self(ty.to_token_stream(), &quote::quote!(Worker<T>));
        let expected: Type = parse_quote!(Pair<[Worker<T>; 2], <Worker<T> as Trait>::Item>);
        assert_eq!(replaced.to_string(), expected.to_token_stream().to_string());
    }

    #[test]
    fn types_are_shown_as_one_writes_them() {
        assert_eq!(
            shown(&parse_quote!(std::collections::BTreeMap<String, &u8>)),
            "std::collections::BTreeMap<String, &u8>"
        );
    }
}
