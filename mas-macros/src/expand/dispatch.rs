//! The table of an agent's handlers, and the calls of them.
//!
//! Each handler has its number, so that a `#[cfg]` on one does not move the others. A call of a handler shows its
//! errors at the method's name; the types in it keep the user's spans.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Ident, Type};

use super::attrs;
use crate::model::Block;
use crate::model::handler::{Handler, Hook};
use crate::model::params::Param;
use crate::model::reply::{Outcome, Reply};
use crate::model::types;
use crate::names::{self, Names};

/// The agent's impl of the runtime's trait.
pub(crate) fn expand(block: &Block, names: &Names) -> TokenStream {
    let entries = block
        .handlers
        .iter()
        .flat_map(|handler| entries(handler, names));
    let hooks = hooks(&block.start, "on_start", names).chain(hooks(&block.stop, "on_stop", names));
    let exclusive = dispatcher(block, true, names);
    let shared = dispatcher(block, false, names);
    implement(
        block,
        names,
        quote!(#(#entries),*),
        quote!(#(#hooks)* #exclusive #shared),
    )
}

/// The impl without a handler, for a block that has faults.
pub(crate) fn stub(block: &Block, names: &Names) -> TokenStream {
    implement(block, names, TokenStream::new(), TokenStream::new())
}

/// The impl around its table and its functions.
fn implement(
    block: &Block,
    names: &Names,
    entries: TokenStream,
    functions: TokenStream,
) -> TokenStream {
    let item = &block.item;
    let agent = &item.self_ty;
    let (generics, _, bounds) = item.generics.split_for_impl();
    let carried = attrs::for_block(&item.attrs);
    let quiet = attrs::quiet();
    let reference = reference(block);
    quote! {
        #(#carried)*
        #quiet
        #[automatically_derived]
        impl #generics #names::Agent for #agent #bounds {
            type Ref = #reference;

            const HANDLERS: &'static [#names::HandlerSpec] = &[#entries];

            #functions
        }
    }
}

/// The ref's type: the agent's path and arguments, with the ref's name. It is shown at the agent's name.
pub(super) fn reference(block: &Block) -> TokenStream {
    let Type::Path(path) = types::bare(&block.item.self_ty) else {
        return TokenStream::new();
    };
    let mut path = path.path.clone();
    if let Some(last) = path.segments.last_mut() {
        last.ident = names::ref_of(&block.agent);
    }
    path.into_token_stream()
}

/// A handler's entries in the table.
fn entries(handler: &Handler, names: &Names) -> Vec<TokenStream> {
    let conditions = attrs::conditions(&handler.attrs);
    let streams = handler.streams().then(|| quote!(.streams()));
    let kind = if handler.exclusive {
        format_ident!("exclusive")
    } else {
        format_ident!("shared")
    };
    let mut entries: Vec<TokenStream> = handler
        .types
        .iter()
        .map(|(index, message_type)| {
            let message_type = message_type.value();
            quote!(#(#conditions)* #names::HandlerSpec::#kind(#index, #message_type) #streams)
        })
        .collect();
    if let Some((index, _)) = &handler.any {
        let exclusive = handler.exclusive;
        entries.push(quote!(#(#conditions)* #names::HandlerSpec::any(#index, #exclusive) #streams));
    }
    entries
}

/// The function that picks a handler by its number, for those that take `&mut self` or those that take `&self`.
fn dispatcher(block: &Block, exclusive: bool, names: &Names) -> Option<TokenStream> {
    let arms: Vec<TokenStream> = block
        .handlers
        .iter()
        .filter(|handler| handler.exclusive == exclusive)
        .map(|handler| arm(handler, names))
        .collect();
    if arms.is_empty() {
        return None;
    }
    let (function, borrow) = if exclusive {
        (format_ident!("handle_exclusive"), quote!(&mut))
    } else {
        (format_ident!("handle_shared"), quote!(&))
    };
    let sendable = sendable_self();
    Some(quote! {
        async fn #function(
            #borrow self,
            __mas_handler: #names::HandlerIndex,
            mut __mas_message: #names::Message,
            __mas_context: #borrow #names::Context<Self>,
        ) -> #names::Reply
        #sendable
        {
            match __mas_handler {
                #(#arms)*
                _ => #names::Message::unknown(__mas_message),
            }
        }
    })
}

/// The demand that the agent can move between threads. Where it cannot, the impl itself says so, once; here it is
/// taken for granted, lest every handler says so again.
fn sendable_self() -> TokenStream {
    quote!(where for<'__mas> Self: ::core::marker::Send + ::core::marker::Sync)
}

/// The arm of one handler: take what it takes, call it, answer with what it gives.
fn arm(handler: &Handler, names: &Names) -> TokenStream {
    let conditions = attrs::conditions(&handler.attrs);
    let indices = handler
        .types
        .iter()
        .map(|(index, _)| index)
        .chain(handler.any.iter().map(|(index, _)| index));
    let envelope = handler
        .params
        .iter()
        .any(|param| matches!(param, Param::Envelope))
        .then(|| quote!(let __mas_envelope = #names::Message::envelope(&mut __mas_message);));
    let payload = match handler.payload() {
        Some((_, ty)) => quote! {
            let __mas_payload = match #names::Message::payload::<#ty>(&mut __mas_message) {
                ::core::result::Result::Ok(__mas_payload) => __mas_payload,
                ::core::result::Result::Err(__mas_failure) => {
                    return #names::Reply::failed(__mas_message, __mas_failure);
                }
            };
        },
        None => quote!(#names::Message::no_payload(&mut __mas_message);),
    };
    let answer = answer(handler, names);
    quote! {
        #(#conditions)*
        #(#indices)|* => {
            #envelope
            #payload
            #answer
        }
    }
}

/// The call of a method with what it takes, all of it shown at the method's name.
fn call(name: &Ident, params: &[Param]) -> TokenStream {
    let at = names::shown_at(name.span());
    let arguments = params.iter().map(|param| match param {
        Param::Payload { .. } => quote_spanned!(at=> __mas_payload),
        Param::Envelope => quote_spanned!(at=> __mas_envelope),
        Param::Context { mutable: true } => quote_spanned!(at=> &mut *__mas_context),
        Param::Context { mutable: false } => quote_spanned!(at=> &*__mas_context),
    });
    quote_spanned!(at=> Self::#name(self, #(#arguments),*))
}

/// The end of an arm: what the handler gives back becomes the reply.
fn answer(handler: &Handler, names: &Names) -> TokenStream {
    let call = call(&handler.name, &handler.params);
    let at = names::shown_at(handler.name.span());
    let private = names.at(at);
    let value = quote_spanned!(at=> #private::sendable(#call).await);
    match &handler.reply {
        Reply::Unknown => TokenStream::new(),
        Reply::Unit => quote_spanned!(at=> #private::Message::reply::<()>(__mas_message, #value)),
        Reply::Value(ty) => {
            let value = match borrowed(ty) {
                Some(inner) => quote_spanned!(at=> <#inner as #private::ToOwned>::to_owned(#value)),
                None => value,
            };
            let ty = owned(Some(ty), &private);
            quote_spanned!(at=> #private::Message::reply::<#ty>(__mas_message, #value))
        }
        Reply::Fallible(outcome) => {
            let value = match outcome.value.as_ref().and_then(borrowed) {
                Some(inner) => {
                    quote_spanned!(at=> ::core::result::Result::map(#value, <#inner as #private::ToOwned>::to_owned))
                }
                None => value,
            };
            let (ty, error) = (owned(outcome.value.as_ref(), &private), error(outcome));
            quote_spanned!(at=> #private::Message::reply_result::<#ty, #error>(__mas_message, #value))
        }
        Reply::Stream(ty) => {
            let stream = match borrowed(ty) {
                Some(inner) => quote_spanned!(at=> #private::owned_stream::<#inner, _>(#call)),
                None => call,
            };
            let ty = owned(Some(ty), &private);
            quote_spanned!(at=> #private::Message::reply_stream::<#ty, _>(__mas_message, #stream).await)
        }
        Reply::TryStream(outcome) => {
            let error = error(outcome);
            let stream = match outcome.value.as_ref().and_then(borrowed) {
                Some(inner) => {
                    quote_spanned!(at=> #private::owned_try_stream::<#inner, #error, _>(#call))
                }
                None => call,
            };
            let ty = owned(outcome.value.as_ref(), &private);
            quote_spanned!(at=> #private::Message::reply_try_stream::<#ty, #error, _>(__mas_message, #stream).await)
        }
    }
}

/// The type of a `Result`'s error; where it is not written it is inferred, and shown at the word `Result`.
fn error(outcome: &Outcome) -> TokenStream {
    match &outcome.error {
        Some(error) => error.to_token_stream(),
        None => quote_spanned!(names::shown_at(outcome.span)=> _),
    }
}

/// What a reference at the top of a reply's type refers to.
pub(super) fn borrowed(ty: &Type) -> Option<&Type> {
    match types::bare(ty) {
        Type::Reference(reference) => Some(&reference.elem),
        _ => None,
    }
}

/// A reply's type as it arrives: owned, and nothing when there is no type.
pub(super) fn owned(ty: Option<&Type>, private: &impl ToTokens) -> TokenStream {
    match ty {
        None => quote!(()),
        Some(ty) => match borrowed(ty) {
            Some(inner) => quote!(<#inner as #private::ToOwned>::Owned),
            None => ty.to_token_stream(),
        },
    }
}

/// The functions of the agent's start or stop.
fn hooks<'a>(
    hooks: &'a [Hook],
    function: &'a str,
    names: &'a Names,
) -> impl Iterator<Item = TokenStream> + 'a {
    hooks.iter().enumerate().map(move |(index, hook)| {
        let conditions = attrs::conditions(&hook.attrs);
        // Where the conditions of two hold, that is told already.
        let earlier = hooks[..index].iter();
        let earlier = earlier.filter_map(|hook| attrs::condition(&hook.attrs));
        let first = (index > 0).then(|| quote!(#[cfg(not(any(#(#earlier),*)))]));
        let function = format_ident!("{function}");
        let call = call(&hook.name, &hook.params);
        let at = names::shown_at(hook.name.span());
        let end = if hook.fallible {
            format_ident!("lifecycle")
        } else {
            format_ident!("lifecycle_unit")
        };
        let sendable = sendable_self();
        let private = names.at(at);
        let result = quote_spanned!(at=> #private::#end(#private::sendable(#call).await));
        quote! {
            #(#conditions)*
            #first
            async fn #function(
                &mut self,
                __mas_context: &mut #names::Context<Self>,
            ) -> ::core::result::Result<(), #names::Failure>
            #sendable
            {
                #result
            }
        }
    })
}
