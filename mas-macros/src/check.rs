//! The rules over a whole model: what is fine by itself and a fault beside something else.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Attribute, Ident};

use crate::expand::attrs;
use crate::faults::Faults;
use crate::model::handler::Hook;
use crate::model::{Block, Declared};
use crate::names;

/// Rules over the options of a struct.
pub(crate) fn declared(declared: &Declared, faults: &mut Faults) {
    if declared.args.has("state") {
        return;
    }
    let keeps_nothing = !declared.args.has("durable");
    for (key, span) in &declared.args.keys {
        if matches!(key.as_str(), "validate" | "migrate" | "state_version") {
            faults.at(
                *span,
                format!("`{key}` is about the agent's state: add `state = ..`, or leave it out"),
            );
        }
        if key == "durability" && keeps_nothing {
            faults.at(
                *span,
                "`durability` says how what the agent keeps is kept, and it keeps nothing: add `state = ..` or `durable`, or leave it out",
            );
        }
    }
}

/// Rules over the handlers of a block.
pub(crate) fn block(block: &Block, faults: &mut Faults) {
    names_are_free(block, faults);
    types_differ(block, faults);
    one_any(block, faults);
    one_hook(&block.start, faults);
    one_hook(&block.stop, faults);
}

/// What only one method may have, and the methods that have it, each with its condition.
#[derive(Default)]
struct Place<'a>(Vec<(&'a Ident, Option<TokenStream>)>);

impl<'a> Place<'a> {
    /// Gives the place to a method. It is a fault that others have it already, or one where the conditions of two hold.
    fn take(
        &mut self,
        name: &'a Ident,
        attrs: &[Attribute],
        faults: &mut Faults,
        fault: impl Fn(&Ident) -> syn::Error,
    ) {
        let own = attrs::condition(attrs);
        let always = |(_, other): &&(_, Option<_>)| own.is_none() || other.is_none();
        if let Some((other, _)) = self.0.iter().find(always) {
            faults.add(fault(other));
        } else {
            for (index, (other, condition)) in self.0.iter().enumerate() {
                // Two methods of one name are the compiler's to refuse.
                if *other != name {
                    let earlier = self.0[..index].iter().map(|(_, condition)| condition);
                    let both = quote!(all(#own, #condition, not(any(#(#earlier),*))));
                    faults.under(both, fault(other));
                }
            }
        }
        self.0.push((name, own));
    }
}

/// At most one handler of everything else.
fn one_any(block: &Block, faults: &mut Faults) {
    let mut place = Place::default();
    for handler in &block.handlers {
        if let Some((_, attr)) = &handler.any {
            place.take(&handler.name, &handler.attrs, faults, |other| {
                let message = format!("a second `#[on_any]`: `{other}` has it already");
                syn::Error::new_spanned(attr, message)
            });
        }
    }
}

/// No handler is named like a method of every agent's ref.
fn names_are_free(block: &Block, faults: &mut Faults) {
    for handler in &block.handlers {
        let name = handler.name.unraw().to_string();
        if handler.any.is_none() && names::RESERVED.contains(&name.as_str()) {
            let message = format!(
                "`{name}` is a method of every agent's ref: give the handler another name; its message type can stay"
            );
            faults.on(&handler.name, message);
        }
    }
}

/// No message type has two handlers, and no handler has one twice.
fn types_differ(block: &Block, faults: &mut Faults) {
    let mut places: BTreeMap<String, Place<'_>> = BTreeMap::new();
    for handler in &block.handlers {
        let mut own = BTreeSet::new();
        for (_, message_type) in &handler.types {
            let text = message_type.value();
            let fault = |other: &Ident, advice: &str| {
                let message = format!("`{other}` handles `{text}` already: {advice}");
                syn::Error::new(message_type.span(), message)
            };
            if !own.insert(text.clone()) {
                faults.add(fault(&handler.name, "leave this out"));
                continue;
            }
            let place = places.entry(text.clone()).or_default();
            place.take(&handler.name, &handler.attrs, faults, |other| {
                fault(other, "one handler for each message type")
            });
        }
    }
}

/// At most one method for the start, and one for the stop.
fn one_hook(hooks: &[Hook], faults: &mut Faults) {
    let mut place = Place::default();
    for hook in hooks {
        place.take(&hook.name, &hook.attrs, faults, |other| {
            let path = hook.attr.path();
            let name = path.segments.last().map(|last| last.ident.to_string());
            let name = name.unwrap_or_default();
            let message = format!("a second `#[{name}]`: `{other}` has it already");
            syn::Error::new_spanned(&hook.attr, message)
        });
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;
    use syn::{ItemImpl, parse_quote};

    use super::*;

    /// What the rules find in a block whose methods are fine by themselves.
    fn found_in(item: ItemImpl) -> Faults {
        let mut faults = Faults::default();
        if let Ok(read) = Block::new(quote!(), item, &mut faults) {
            assert_eq!(faults.count(), 0);
            block(&read, &mut faults);
        }
        faults
    }

    /// The faults that are certain.
    fn faults_of(item: ItemImpl) -> Vec<String> {
        found_in(item).texts()
    }

    #[test]
    fn a_message_type_has_one_handler() {
        let faults = faults_of(parse_quote! {
            impl Worker {
                #[on("a")] async fn first(&self) {}
                #[on("b")] #[on("a")] async fn second(&self) {}
                #[on("c")] #[on("c")] async fn third(&self) {}
            }
        });
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("`first` handles `a` already"));
        assert!(faults[1].contains("`third` handles `c` already: leave this out"));
    }

    #[test]
    fn conditional_handlers_may_share_a_message_type() {
        let either: ItemImpl = parse_quote! {
            impl Worker {
                #[on("a")] #[cfg(unix)] async fn first(&self) {}
                #[on("a")] #[cfg(not(unix))] async fn second(&self) {}
            }
        };
        assert_eq!(faults_of(either), Vec::<String>::new());
        let one_only = parse_quote! {
            impl Worker {
                #[on("a")] async fn first(&self) {}
                #[on("a")] #[cfg(unix)] async fn second(&self) {}
            }
        };
        assert_eq!(faults_of(one_only).len(), 1);
        let itself = parse_quote! {
            impl Worker { #[on("a")] #[on("a")] #[cfg(unix)] async fn first(&self) {} }
        };
        assert_eq!(faults_of(itself).len(), 1);
    }

    #[test]
    fn where_two_conditions_hold_there_is_one_fault_for_each_handler_too_many() {
        let faults = found_in(parse_quote! {
            impl Worker {
                #[on("a")] #[cfg(x)] async fn first(&self) {}
                #[on("a")] #[cfg(y)] async fn second(&self) {}
                #[on("a")] #[cfg(z)] async fn third(&self) {}
                #[on("a")] #[cfg(not(z))] async fn third(&self) {}
            }
        });
        assert_eq!(faults.texts(), Vec::<String>::new());
        let found = faults.possible();
        let named = |condition: &str| {
            let condition = condition.split_whitespace().collect::<String>();
            let matching = found
                .iter()
                .filter(|(found, _)| found.split_whitespace().collect::<String>() == condition);
            matching.map(|(_, text)| text.as_str()).collect::<Vec<_>>()
        };
        let second = named("all(all(y), all(x), not(any()))");
        assert_eq!(
            second,
            ["`first` handles `a` already: one handler for each message type"]
        );
        assert!(named("all(all(z), all(y), not(any(all(x))))")[0].starts_with("`second`"));
        assert_eq!(found.len(), 5, "{found:?}");
    }

    #[test]
    fn each_reserved_name_is_refused_to_typed_calls_only() {
        for name in names::RESERVED {
            let name = quote::format_ident!("{name}");
            assert_eq!(
                faults_of(parse_quote!(impl W { #[on("a")] async fn #name(&self) {} })).len(),
                1
            );
            assert_eq!(
                faults_of(parse_quote!(impl W { #[on_any] async fn #name(&self) {} })),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn start_stop_and_any_are_there_once() {
        let faults = faults_of(parse_quote! {
            impl Worker {
                #[on_start] async fn a(&mut self) {}
                #[on_start] async fn b(&mut self) {}
                #[on_stop] async fn c(&mut self) {}
                #[on_any] async fn d(&self) {}
                #[on_any] async fn e(&self) {}
                #[on_any] #[cfg(x)] async fn f(&self) {}
            }
        });
        assert_eq!(faults.len(), 3, "{faults:?}");
    }

    #[test]
    fn keys_about_the_state_need_one() {
        let faults_of = |args| {
            let mut faults = Faults::default();
            declared(
                &Declared::new(
                    args,
                    parse_quote!(
                        struct Worker;
                    ),
                    &mut faults,
                ),
                &mut faults,
            );
            faults.texts().len()
        };
        assert_eq!(
            faults_of(quote!(validate = a, migrate = b, state_version = 2)),
            3
        );
        assert_eq!(
            faults_of(quote!(
                state = u8,
                validate = a,
                migrate = b,
                state_version = 2
            )),
            0
        );
        assert_eq!(faults_of(quote!(durable)), 0);
    }
}
