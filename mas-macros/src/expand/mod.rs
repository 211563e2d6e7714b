//! The model to tokens.
//!
//! `declare` writes what stands beside the struct, `dispatch` the table of handlers and the calls of them, `calls` the
//! typed calls on the agent's ref, `attrs` says which of the user's attributes go where.

pub(crate) mod attrs;
mod calls;
pub(crate) mod declare;
pub(crate) mod dispatch;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Item, ItemImpl, ItemStruct, parse2};

use crate::faults::Faults;
use crate::model::{Block, Declared};
use crate::names::Names;
use crate::{check, fallback};

/// Expands `#[agent]` on whatever it stands on.
pub(crate) fn agent(args: TokenStream, item: TokenStream) -> TokenStream {
    match parse2::<Item>(item.clone()) {
        Ok(Item::Struct(item)) => on_struct(args, item),
        Ok(Item::Impl(item)) => on_impl(args, item),
        Ok(other) => fallback::elsewhere(args, &other),
        Err(error) => {
            let mut faults = Faults::default();
            faults.add(error);
            fallback::with_faults(item, faults)
        }
    }
}

/// Expands `#[agent]` on a struct.
fn on_struct(args: TokenStream, item: ItemStruct) -> TokenStream {
    let mut faults = Faults::default();
    let declared = Declared::new(args, item, &mut faults);
    check::declared(&declared, &mut faults);
    let (item, beside) = (&declared.item, declare::expand(&declared));
    fallback::with_faults(quote!(#item #beside), faults)
}

/// Expands `#[agent]` on an impl block.
fn on_impl(args: TokenStream, item: ItemImpl) -> TokenStream {
    let mut faults = Faults::default();
    let block = match Block::new(args, item, &mut faults) {
        Ok(block) => block,
        Err(no_block) => return fallback::with_faults(fallback::no_block(&no_block), faults),
    };
    check::block(&block, &mut faults);
    let names = Names::new(block.krate.as_ref());
    let item = &block.item;
    let stand_in = fallback::stand_in(&block, &names);
    let dispatch = if faults.count() == 0 && block.names_differ() {
        dispatch::expand(&block, &names)
    } else {
        dispatch::stub(&block, &names)
    };
    let calls = calls::expand(&block, &names);
    fallback::with_faults(quote!(#item #stand_in #dispatch #calls), faults)
}

#[cfg(test)]
mod tests;
