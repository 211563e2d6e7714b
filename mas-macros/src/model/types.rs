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
        &mut |token, _| matches!(token, TokenTree::Ident(ident) if ident == "impl"),
    )
}

/// The name of a lifetime in a type that is not `'static` nor bound by a `for`.
pub(crate) fn borrowed(ty: &Type) -> Option<TokenTree> {
    if find(
        ty.to_token_stream(),
        &mut |token, _| matches!(token, TokenTree::Ident(ident) if ident == "for"),
    )
    .is_some()
    {
        return None;
    }
    find(ty.to_token_stream(), &mut |token, before| {
        let quote = matches!(before, Some(TokenTree::Punct(punct)) if punct.as_char() == '\'');
        quote && matches!(token, TokenTree::Ident(ident) if ident != "static")
    })
}

/// The first token that `wanted` says yes to; it sees the token before, too.
fn find(
    tokens: TokenStream,
    wanted: &mut impl FnMut(&TokenTree, Option<&TokenTree>) -> bool,
) -> Option<TokenTree> {
    let mut before = None;
    for token in tokens {
        if wanted(&token, before.as_ref()) {
            return Some(token);
        }
        if let TokenTree::Group(group) = &token
            && let Some(found) = find(group.stream(), wanted)
        {
            return Some(found);
        }
        before = Some(token);
    }
    None
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
