//! The rules over a whole model: what is fine by itself and a fault beside something else.

use std::collections::BTreeMap;

use syn::Ident;
use syn::ext::IdentExt;

use crate::expand::attrs;
use crate::faults::Faults;
use crate::model::handler::{Handler, Hook};
use crate::model::{Block, Declared};
use crate::names;

/// Rules over the options of a struct.
pub(crate) fn declared(declared: &Declared, faults: &mut Faults) {
    if declared.args.has("state") {
        return;
    }
    for (key, span) in &declared.args.keys {
        if matches!(key.as_str(), "validate" | "migrate" | "state_version") {
            faults.at(
                *span,
                format!("`{key}` is about the agent's state: add `state = ..`, or leave it out"),
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

/// At most one handler of everything else.
fn one_any(block: &Block, faults: &mut Faults) {
    let mut first: Option<&Handler> = None;
    for handler in &block.handlers {
        let Some((_, attr)) = &handler.any else {
            continue;
        };
        match first {
            Some(first)
                if !(attrs::conditional(&handler.attrs) && attrs::conditional(&first.attrs)) =>
            {
                faults.on(
                    attr,
                    format!("a second `#[on_any]`: `{}` has it already", first.name),
                );
            }
            _ => first = Some(handler),
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

/// No message type has two handlers, unless both are conditional.
fn types_differ(block: &Block, faults: &mut Faults) {
    let mut first: BTreeMap<String, (&Ident, bool)> = BTreeMap::new();
    for handler in &block.handlers {
        let conditional = attrs::conditional(&handler.attrs);
        for (_, message_type) in &handler.types {
            let text = message_type.value();
            match first.get(&text) {
                Some((other, both)) if !(*both && conditional) => {
                    let advice = if **other == handler.name {
                        "leave this out"
                    } else {
                        "one handler for each message type"
                    };
                    faults.at(
                        message_type.span(),
                        format!("`{other}` handles `{text}` already: {advice}"),
                    );
                }
                _ => {
                    first.insert(text, (&handler.name, conditional));
                }
            }
        }
    }
}

/// At most one method for the start, and one for the stop.
fn one_hook(hooks: &[Hook], faults: &mut Faults) {
    let mut first: Option<&Hook> = None;
    for hook in hooks {
        match first {
            Some(first)
                if !(attrs::conditional(&hook.attrs) && attrs::conditional(&first.attrs)) =>
            {
                let name = hook
                    .attr
                    .path()
                    .segments
                    .last()
                    .map(|last| last.ident.to_string())
                    .unwrap_or_default();
                faults.on(
                    &hook.attr,
                    format!("a second `#[{name}]`: `{}` has it already", first.name),
                );
            }
            _ => first = Some(hook),
        }
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;
    use syn::{ItemImpl, parse_quote};

    use super::*;

    /// The faults that the rules find in a block whose methods are fine by themselves.
    fn faults_of(item: ItemImpl) -> Vec<String> {
        let mut faults = Faults::default();
        if let Ok(read) = Block::new(quote!(), item, &mut faults) {
            assert_eq!(faults.count(), 0);
            block(&read, &mut faults);
        }
        faults.texts()
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
