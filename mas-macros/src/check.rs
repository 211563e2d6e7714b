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
