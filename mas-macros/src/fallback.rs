//! What is emitted when something is wrong: the user's item, stand-ins for what it would have become, and the errors.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::parse::{ParseStream, Parser};
use syn::{
    Attribute, Fields, GenericArgument, GenericParam, Generics, Ident, Item, ItemStruct, Lifetime,
    Path, Token, Type, Visibility, parse_quote,
};

use crate::attr::on::Role;
use crate::expand::{attrs, declare, dispatch};
use crate::faults::Faults;
use crate::model::{Block, Declared, NoBlock, types};
use crate::names::{self, Names};

/// The output and the errors beside it.
pub(crate) fn with_faults(output: TokenStream, faults: Faults) -> TokenStream {
    let errors = faults.into_tokens();
    quote!(#output #errors)
}

/// A helper attribute that runs by itself: nothing collected it.
pub(crate) fn outside(attribute: &str, item: TokenStream) -> TokenStream {
    let mut faults = Faults::default();
    let item = without_roles(item);
    // Shown at the attribute, as the user's own token.
    let inside = item
        .clone()
        .into_iter()
        .next()
        .map_or_else(Span::call_site, |token| token.span());
    faults.at(
        Span::call_site().resolved_at(inside),
        format!("`#[{attribute}]` stands on a method of an `#[agent] impl`: write `#[agent]` on the impl block around it"),
    );
    with_faults(item, faults)
}

/// An item without the first of our attributes that stand on it, lest each of them reports the same fault.
fn without_roles(item: TokenStream) -> TokenStream {
    let mut out = TokenStream::new();
    let mut tokens = item.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_hash = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '#');
        let Some(TokenTree::Group(group)) = tokens.peek().filter(|_| is_hash) else {
            out.extend([token]);
            out.extend(tokens);
            return out;
        };
        let path = (|input: ParseStream<'_>| {
            let path = input.call(Path::parse_mod_style)?;
            let _: TokenStream = input.parse()?;
            Ok(path)
        })
        .parse2(group.stream());
        let ours = path.is_ok_and(|path| Role::of(&path, None).is_some());
        let group = tokens.next();
        if !ours {
            out.extend([Some(token), group].into_iter().flatten());
        }
    }
    out
}

/// `#[agent]` on what is neither a struct nor an impl block.
pub(crate) fn elsewhere(args: TokenStream, item: &Item) -> TokenStream {
    let mut faults = Faults::default();
    let mut beside = TokenStream::new();
    let what = "`#[agent]` stands on a struct, and on the impl block with its handlers";
    match item {
        Item::Enum(item) => {
            let advice = "write a struct, and keep this enum in a field or as its state";
            faults.on(item.enum_token, format!("{what}: {advice}"));
            beside = as_if_struct(args, &item.attrs, &item.vis, &item.ident, &item.generics);
        }
        Item::Union(item) => {
            faults.on(item.union_token, format!("{what}: write a struct"));
            beside = as_if_struct(args, &item.attrs, &item.vis, &item.ident, &item.generics);
        }
        Item::Trait(item) => faults.on(
            item.trait_token,
            format!("{what}: write it on the struct that has this trait"),
        ),
        Item::Fn(item) => faults.on(
            item.sig.fn_token,
            format!("{what}: a handler is a method there, with `#[on(\"..\")]`"),
        ),
        Item::Mod(item) => faults.on(item.mod_token, what),
        Item::Type(item) => faults.on(
            item.type_token,
            format!("{what}: put it where the struct itself stands"),
        ),
        other => faults.on(other, what),
    }
    with_faults(quote!(#item #beside), faults)
}

/// What would stand beside an item if it were a struct.
fn as_if_struct(
    args: TokenStream,
    attrs: &[Attribute],
    vis: &Visibility,
    ident: &Ident,
    generics: &Generics,
) -> TokenStream {
    let item = ItemStruct {
        attrs: attrs.to_vec(),
        vis: vis.clone(),
        struct_token: <Token![struct]>::default(),
        ident: ident.clone(),
        generics: generics.clone(),
        fields: Fields::Unit,
        semi_token: None,
    };
    // Faults in its keys are told once it is a struct.
    declare::expand(&Declared::new(args, item, &mut Faults::default()))
}

/// An impl block that can hold no handlers. Where some stand in it, the agent gets a stand-in for its dispatch.
pub(crate) fn no_block(no_block: &NoBlock) -> TokenStream {
    let mut item = no_block.item.clone();
    let output = item.to_token_stream();
    if !no_block.holds_handlers || item.trait_.take().is_none() {
        return output;
    }
    let Some(agent) = types::last_segment(&item.self_ty).map(|segment| segment.ident.clone())
    else {
        return output;
    };
    let block = Block {
        item,
        krate: None,
        agent,
        handlers: Vec::new(),
        start: Vec::new(),
        stop: Vec::new(),
    };
    let names = Names::new(None);
    let stand_in = stand_in(&block, &names);
    let dispatch = dispatch::stub(&block, &names);
    quote!(#output #stand_in #dispatch)
}

/// A ref to use where the struct made none. The struct's own ref shadows it, for it is only glob-imported; where it is
/// used after all, `Declare` is missing, and its error says what to do.
pub(crate) fn stand_in(block: &Block, names: &Names) -> TokenStream {
    let Type::Path(path) = types::bare(&block.item.self_ty) else {
        return TokenStream::new();
    };
    // A longer path names the module that the ref is in, too, and no import can stand in there.
    let (Some(segment), 1) = (path.path.segments.last(), path.path.segments.len()) else {
        return TokenStream::new();
    };
    let module = names::stand_in_of(&block.agent);
    let reference = names::ref_of(&block.agent);
    let params = stand_in_params(block, &types::arguments(segment));
    let (generics, arguments, _) = params.split_for_impl();
    let used = params.type_params().map(|param| &param.ident);
    let lifetimes = params.lifetimes().map(|param| &param.lifetime);
    let conditions = attrs::conditions(&block.item.attrs);
    let quiet = attrs::quiet();
    quote! {
        #(#conditions)*
        #[doc(hidden)]
        #[allow(non_snake_case, missing_docs)]
        #quiet
        mod #module {
            #[derive(Debug)]
            pub struct #reference #params(::core::marker::PhantomData<fn() -> (#(#used,)* #(&#lifetimes (),)*)>);
        }

        #(#conditions)*
        #[allow(unused_imports)]
        use #module::*;

        #(#conditions)*
        #quiet
        impl #generics #module::#reference #arguments {
            pub fn attach(_: &#names::Runtime, _: &str) -> #names::Result<Self> {
                ::core::unreachable!()
            }

            pub fn __mas_ref<__MasA>(&self) -> &#names::AgentRef<__MasA> {
                ::core::unreachable!()
            }
        }

        #(#conditions)*
        #quiet
        impl #generics ::core::ops::Deref for #module::#reference #arguments {
            type Target = #names::AgentRef;

            fn deref(&self) -> &Self::Target {
                ::core::unreachable!()
            }
        }
    }
}

/// Parameters for a stand-in that takes the arguments which the agent's type is given.
fn stand_in_params(block: &Block, arguments: &[GenericArgument]) -> Generics {
    let mut params = Generics::default();
    for (index, argument) in arguments.iter().enumerate() {
        let name = format_ident!("__Mas{index}");
        let constant = match argument {
            GenericArgument::Type(Type::Path(path)) => {
                block.item.generics.const_params().find_map(|param| {
                    path.path
                        .is_ident(&param.ident)
                        .then(|| param.ty.to_token_stream())
                })
            }
            GenericArgument::Const(value) => {
                let ty = format_ident!("{}", types::constant_type(value));
                Some(quote!(#ty))
            }
            _ => None,
        };
        let param: GenericParam = match (argument, constant) {
            (GenericArgument::Lifetime(_), _) => {
                let lifetime = Lifetime::new(&format!("'__mas{index}"), Span::call_site());
                parse_quote!(#lifetime)
            }
            (_, Some(ty)) => parse_quote!(const #name: #ty),
            _ => parse_quote!(#name),
        };
        params.params.push(param);
    }
    params
}
