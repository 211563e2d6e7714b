//! What stands beside the struct: the agent's ref, and what the declaration says.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Generics, Ident, LitStr, Type, WherePredicate, parse_quote};

use super::attrs;
use crate::model::Declared;
use crate::names::{self, Names};

/// The agent's ref and its impls.
pub(crate) fn expand(declared: &Declared) -> TokenStream {
    let item = &declared.item;
    let names = Names::new(declared.args.krate.as_ref());
    let (agent, vis, generics) = (&item.ident, &item.vis, &item.generics);
    let reference = names::ref_of(agent);
    let (_, types, bounds) = generics.split_for_impl();
    let carried = attrs::for_item(&item.attrs);
    let doc = format!(
        "A cheap handle to a [`{agent}`]: what `spawn` returns, with a typed call for each handler. \
         Made by `#[agent]`; derefs to `AgentRef<{agent}>`."
    );
    let impls = impls(declared, &names, &reference);
    quote! {
        #[doc = #doc]
        #(#carried)*
        #vis struct #reference #generics #bounds {
            __mas_ref: #names::AgentRef<#agent #types>,
        }

        #impls
    }
}

/// The impls of the ref.
fn impls(declared: &Declared, names: &Names, reference: &Ident) -> TokenStream {
    let item = &declared.item;
    let agent = &item.ident;
    let (generics, types, bounds) = item.generics.split_for_impl();
    let conditions = attrs::conditions(&item.attrs);
    let quiet = attrs::quiet();
    let inherent = quote!(#(#conditions)* #quiet);
    let head = quote!(#inherent #[automatically_derived]);
    let target = quote!(#names::AgentRef<#agent #types>);
    let declare = declare(declared, names, reference);
    let name = reference.to_string();
    quote! {
        #inherent
        impl #generics #reference #types #bounds {
            /// The ref of an agent that runs already, here or (`name@node`) elsewhere.
            ///
            /// # Errors
            ///
            /// When the id is none.
            pub fn attach(runtime: &#names::Runtime, id: &str) -> #names::Result<Self> {
                ::core::result::Result::map(#names::attach::<#agent #types>(runtime, id), |__mas_ref| Self { __mas_ref })
            }

            #[doc(hidden)]
            pub fn __mas_ref(&self) -> &#target {
                &self.__mas_ref
            }
        }

        #head
        impl #generics ::core::clone::Clone for #reference #types #bounds {
            fn clone(&self) -> Self {
                Self { __mas_ref: ::core::clone::Clone::clone(&self.__mas_ref) }
            }
        }

        #head
        impl #generics ::core::fmt::Debug for #reference #types #bounds {
            fn fmt(&self, __mas_f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::DebugTuple::finish(::core::fmt::DebugTuple::field(
                    &mut ::core::fmt::Formatter::debug_tuple(__mas_f, #name),
                    &self.__mas_ref,
                ))
            }
        }

        #head
        impl #generics ::core::ops::Deref for #reference #types #bounds {
            type Target = #target;

            fn deref(&self) -> &Self::Target {
                &self.__mas_ref
            }
        }

        #head
        impl #generics ::core::convert::From<#target> for #reference #types #bounds {
            fn from(__mas_ref: #target) -> Self {
                Self { __mas_ref }
            }
        }

        #head
        #declare
    }
}

/// What the runtime reads: the state's type, and the settings.
fn declare(declared: &Declared, names: &Names, reference: &Ident) -> TokenStream {
    let item = &declared.item;
    let agent = &item.ident;
    // Where the state may not be named by all who may name the agent, the error is shown at the state.
    let state = match &declared.args.state {
        Some(state) => {
            quote_spanned!(names::shown_at(state.span())=> type State = #state;)
        }
        None => quote!(
            type State = ();
        ),
    };
    let generics = with_state_bound(&item.generics, declared.args.state.as_ref(), names);
    let (generics, types, bounds) = generics.split_for_impl();
    let settings = settings(declared, names);
    quote! {
        impl #generics #names::Declare<#agent #types> for #reference #types #bounds {
            #state

            fn declaration() -> #names::Declaration {
                #settings
            }

            fn from_ref(__mas_ref: #names::AgentRef<#agent #types>) -> Self {
                Self { __mas_ref }
            }
        }
    }
}

/// The generics, and for a generic agent the demand that its state can be one.
fn with_state_bound(generics: &Generics, state: Option<&Type>, names: &Names) -> Generics {
    let mut generics = generics.clone();
    if let Some(state) = state
        && generics.type_params().next().is_some()
    {
        let bound: WherePredicate = parse_quote!(#state: #names::AgentState);
        generics.make_where_clause().predicates.push(bound);
    }
    generics
}

/// The settings, one call each.
fn settings(declared: &Declared, names: &Names) -> TokenStream {
    let (args, id) = (&declared.args, &declared.id);
    let mut settings = quote!(#names::Declaration::new(#id));
    let mut add = |call: TokenStream| settings.extend(quote!(.#call));
    for word in args.capabilities.iter().map(LitStr::value) {
        add(quote!(capability(#word)));
    }
    for (key, value) in args
        .metadata
        .iter()
        .map(|(key, value)| (key, value.value()))
    {
        add(quote!(metadata(#key, #value)));
    }
    if args.state.is_some() {
        add(quote!(stateful()));
    }
    if args.durable {
        add(quote!(durable()));
    }
    for (name, value) in [("mailbox", args.mailbox), ("concurrency", args.concurrency)] {
        if let Some(value) = value {
            let name = format_ident!("{name}");
            add(quote!(#name(#value)));
        }
    }
    for (name, kind, variant) in [
        ("durability", "Durability", args.durability),
        ("overflow", "Overflow", args.overflow),
        ("restart", "Restart", args.restart),
        ("strategy", "Strategy", args.strategy),
    ] {
        if let Some(variant) = variant {
            let (name, kind, variant) = (
                format_ident!("{name}"),
                format_ident!("{kind}"),
                format_ident!("{variant}"),
            );
            add(quote!(#name(#names::#kind::#variant)));
        }
    }
    for (name, value) in [
        ("max_restarts", args.max_restarts),
        ("max_attempts", args.max_attempts),
        ("state_version", args.state_version),
    ] {
        if let Some(value) = value {
            let name = format_ident!("{name}");
            add(quote!(#name(#value)));
        }
    }
    if let Some(timeout) = args.timeout {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        add(quote!(timeout(#names::Duration::from_millis(#millis))));
    }
    if let Some(state) = &args.state {
        for (name, function) in [("validate", &args.validate), ("migrate", &args.migrate)] {
            if let Some(function) = function {
                let name = format_ident!("{name}", span = names::shown_at(function.span()));
                add(
                    quote_spanned!(names::shown_at(function.span())=> #name::<#state, _>(#function)),
                );
            }
        }
    }
    settings
}
