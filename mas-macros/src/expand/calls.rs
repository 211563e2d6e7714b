//! The typed calls: a method on the agent's ref for each handler that has a message type.
//!
//! A typed call is there for every handler, and can be called where its payload is `Serialize` and its reply
//! `Deserialize`: its `where` says so, in a form that the compiler checks at the call and not here.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::{Ident, Type};

use super::attrs;
use super::dispatch::{owned, reference};
use crate::model::Block;
use crate::model::handler::Handler;
use crate::model::reply::Reply;
use crate::model::types;
use crate::names::{self, Names};

/// The impl block of the ref.
pub(crate) fn expand(block: &Block, names: &Names) -> TokenStream {
    let item = &block.item;
    let mut seen: Vec<&Ident> = Vec::new();
    let mut calls = TokenStream::new();
    for handler in &block.handlers {
        // A second method of one name is the compiler's to refuse, once.
        if !seen.contains(&&handler.name) || attrs::conditional(&handler.attrs) {
            seen.push(&handler.name);
            calls.extend(call(block, handler, names));
        }
    }
    if calls.is_empty() {
        return calls;
    }
    let (generics, _, bounds) = item.generics.split_for_impl();
    let carried = attrs::for_block(&item.attrs);
    let quiet = attrs::quiet();
    let reference = reference(block);
    quote! {
        #(#carried)*
        #quiet
        impl #generics #reference #bounds {
            #calls
        }
    }
}

/// The typed call of one handler.
fn call(block: &Block, handler: &Handler, names: &Names) -> Option<TokenStream> {
    let (index, message_type) = handler.types.first()?;
    let message_type = message_type.value();
    if names::RESERVED.contains(&handler.name.unraw().to_string().as_str()) {
        return None;
    }
    let agent = block.item.self_ty.to_token_stream();
    let reply = reply(handler, names)?;
    let (kind, function) = if handler.streams() {
        (format_ident!("StreamCall"), format_ident!("stream_call"))
    } else {
        (format_ident!("Call"), format_ident!("call"))
    };
    let reply = types::without_self(reply, &agent);
    let name = &handler.name;
    let doc = (!attrs::documented(&handler.attrs)).then(|| {
        let doc = format!(
            "Sends `{}` with its payload, and gives the reply.",
            message_type
        );
        quote!(#[doc = #doc])
    });
    let carried = attrs::for_call(&handler.attrs);
    if let Some(payloads) = handler.loose {
        return Some(loose_call(handler, payloads, &kind, &reply, names));
    }
    let expect = (!is_unit(&reply)).then(|| quote!(for<'__mas> #reply: #names::Expect,));
    let of = quote!(self.__mas_ref(), #index, #message_type);
    let call = match handler.payload() {
        None => {
            let function = format_ident!("{function}_empty");
            quote! {
                pub fn #name(&self) -> #names::#kind<#reply> where #expect {
                    #names::#function::<#agent, #reply>(#of)
                }
            }
        }
        Some((given, ty)) => {
            let payload = types::without_self(ty.to_token_stream(), &agent);
            let given = given.cloned().unwrap_or_else(|| format_ident!("payload"));
            quote! {
                pub fn #name(&self, #given: #payload) -> #names::#kind<#reply>
                where
                    for<'__mas> #payload: #names::Post,
                    #expect
                {
                    #names::#function::<#agent, #payload, #reply>(#of, #given)
                }
            }
        }
    };
    Some(quote!(#(#carried)* #doc #call))
}

/// The type of a handler's reply, as it arrives.
fn reply(handler: &Handler, names: &Names) -> Option<TokenStream> {
    let ty: Option<&Type> = match &handler.reply {
        Reply::Unknown => return None,
        Reply::Unit => None,
        Reply::Value(ty) | Reply::Stream(ty) => Some(ty),
        Reply::Fallible(outcome) | Reply::TryStream(outcome) => outcome.value.as_ref(),
    };
    Some(owned(ty, names))
}

/// Whether a reply carries nothing.
fn is_unit(reply: &TokenStream) -> bool {
    reply.to_string() == "()"
}

/// The typed call of a handler that has a fault: it takes whatever is given, lest its callers report errors, too.
fn loose_call(
    handler: &Handler,
    payloads: usize,
    kind: &Ident,
    reply: &TokenStream,
    names: &Names,
) -> TokenStream {
    let name = &handler.name;
    let carried = attrs::for_call(&handler.attrs);
    let generics: Vec<Ident> = (0..payloads)
        .map(|index| format_ident!("__Mas{index}"))
        .collect();
    quote! {
        #(#carried)*
        pub fn #name<#(#generics),*>(&self, #(_: #generics),*) -> #names::#kind<#reply> {
            ::core::unreachable!()
        }
    }
}
