//! An item as an agent: what `#[agent]` found on a struct, or the handlers of an impl block.
//!
//! `handler` reads one method, `params` what it is given, `reply` what it gives back; `types` looks into types. Faults
//! of one attribute or one method are found here, rules over all of them in `check`. A method that has a fault stays in
//! the model, marked, so that what calls it keeps compiling.

pub(crate) mod handler;
pub(crate) mod params;
pub(crate) mod reply;
pub(crate) mod types;

use proc_macro2::TokenStream;
use syn::ext::IdentExt;
use syn::{Attribute, GenericParam, Ident, ImplItem, ItemImpl, ItemStruct, Meta, Path, Type};

use crate::attr::agent::{self, AgentArgs};
use crate::attr::on::{self, Role};
use crate::expand::attrs;
use crate::faults::Faults;
use crate::names;
use handler::{Handler, Hook, Method};

/// An agent as its struct declares it.
pub(crate) struct Declared {
    /// The struct, as the user wrote it.
    pub(crate) item: ItemStruct,
    pub(crate) args: AgentArgs,
    pub(crate) id: String,
}

impl Declared {
    /// Reads a struct and its options.
    pub(crate) fn new(tokens: TokenStream, mut item: ItemStruct, faults: &mut Faults) -> Self {
        let args = agent::on_struct(tokens, faults);
        drop_second_agent(&mut item.attrs, args.krate.as_ref(), faults);
        for param in &item.generics.params {
            if let GenericParam::Lifetime(lifetime) = param {
                faults.on(
                    lifetime,
                    "an agent owns what it holds: leave the lifetime out and hold owned values",
                );
            }
        }
        let id = match &args.id {
            Some(id) => id.value(),
            None => names::kebab(&item.ident.unraw().to_string()),
        };
        if !args.has("id") && names::name_fault("the agent id", &id).is_some() {
            faults.on(
                &item.ident,
                "this name makes no agent id: write `#[agent(id = \"..\")]`",
            );
        }
        Self { item, args, id }
    }
}

/// The handlers of an agent, as its impl block collects them.
pub(crate) struct Block {
    /// The impl block, without our attributes.
    pub(crate) item: ItemImpl,
    pub(crate) krate: Option<Path>,
    /// The agent's name: the last word of the type.
    pub(crate) agent: Ident,
    pub(crate) handlers: Vec<Handler>,
    pub(crate) start: Vec<Hook>,
    pub(crate) stop: Vec<Hook>,
}

/// Why an impl block cannot hold handlers.
pub(crate) struct NoBlock {
    /// The impl block, without our attributes.
    pub(crate) item: ItemImpl,
    /// Whether handlers stand in it all the same.
    pub(crate) holds_handlers: bool,
}

impl Block {
    /// Reads an impl block and its options.
    pub(crate) fn new(
        tokens: TokenStream,
        mut item: ItemImpl,
        faults: &mut Faults,
    ) -> Result<Self, Box<NoBlock>> {
        let krate = agent::on_impl(tokens, faults);
        drop_second_agent(&mut item.attrs, krate.as_ref(), faults);
        let agent = match agent_of(&item) {
            Ok(agent) => agent,
            Err(error) => {
                faults.add(error);
                let holds_handlers = strip_roles(&mut item, krate.as_ref());
                return Err(Box::new(NoBlock {
                    item,
                    holds_handlers,
                }));
            }
        };
        let mut block = Self {
            agent,
            krate,
            handlers: Vec::new(),
            start: Vec::new(),
            stop: Vec::new(),
            item,
        };
        let mut index = 0;
        let mut items = std::mem::take(&mut block.item.items);
        for item in &mut items {
            block.read(item, &mut index, faults);
        }
        block.item.items = items;
        Ok(block)
    }

    /// Whether each method has its own name. Where not, the compiler says so, and a call of one would say it again.
    pub(crate) fn names_differ(&self) -> bool {
        let handlers = self
            .handlers
            .iter()
            .map(|handler| (&handler.name, &handler.attrs));
        let hooks = self
            .start
            .iter()
            .chain(&self.stop)
            .map(|hook| (&hook.name, &hook.attrs));
        let mut names: Vec<&Ident> = handlers
            .chain(hooks)
            .filter(|(_, attrs)| !attrs::conditional(attrs))
            .map(|(name, _)| name)
            .collect();
        names.sort();
        names.windows(2).all(|pair| pair[0] != pair[1])
    }

    /// Reads one item of the block, if it carries one of our attributes.
    fn read(&mut self, item: &mut ImplItem, index: &mut u16, faults: &mut Faults) {
        let Some(attrs) = attrs_of(item) else { return };
        let roles = take_roles(attrs, self.krate.as_ref());
        refuse_conditional_roles(attrs, self.krate.as_ref(), faults);
        let Some((first, role)) = roles.first() else {
            return;
        };
        let ImplItem::Fn(function) = item else {
            faults.on(first, format!("`#[{}]` stands on a method", role.name()));
            return;
        };
        match Method::new(&roles, function, &self.item.self_ty, index, faults) {
            Method::Handler(handler) => self.handlers.push(*handler),
            Method::Start(hook) => self.start.push(*hook),
            Method::Stop(hook) => self.stop.push(*hook),
        }
    }
}

/// The name of the type that an inherent impl block is for.
fn agent_of(item: &ItemImpl) -> syn::Result<Ident> {
    if let Some((path, _)) = &item.trait_ {
        let message = "handlers stand in the type's own block: write `#[agent] impl` without a trait, and leave this one bare";
        return Err(syn::Error::new_spanned(path, message));
    }
    if let Some(unsafety) = &item.unsafety {
        return Err(syn::Error::new(
            unsafety.span,
            "an `#[agent] impl` is not `unsafe`: leave the word out",
        ));
    }
    if let Type::Path(path) = types::bare(&item.self_ty)
        && path.qself.is_none()
        && let Some(segment) = path.path.segments.last()
        && segment.ident != "Self"
    {
        return Ok(segment.ident.clone());
    }
    Err(syn::Error::new_spanned(
        &item.self_ty,
        "`#[agent]` stands on the impl block of a struct: write `#[agent] impl Worker`",
    ))
}

/// The attributes of an item of an impl block.
fn attrs_of(item: &mut ImplItem) -> Option<&mut Vec<Attribute>> {
    match item {
        ImplItem::Fn(item) => Some(&mut item.attrs),
        ImplItem::Const(item) => Some(&mut item.attrs),
        ImplItem::Type(item) => Some(&mut item.attrs),
        ImplItem::Macro(item) => Some(&mut item.attrs),
        _ => None,
    }
}

/// Takes our attributes out of a list.
fn take_roles(attrs: &mut Vec<Attribute>, krate: Option<&Path>) -> Vec<(Attribute, Role)> {
    let mut roles = Vec::new();
    attrs.retain(|attr| match Role::of(attr.path(), krate) {
        Some(role) => {
            roles.push((attr.clone(), role));
            false
        }
        None => true,
    });
    roles
}

/// Takes our attributes out of a block that cannot hold handlers; whether there were any.
fn strip_roles(item: &mut ItemImpl, krate: Option<&Path>) -> bool {
    let mut any = false;
    for item in &mut item.items {
        if let Some(attrs) = attrs_of(item) {
            any |= !take_roles(attrs, krate).is_empty();
        }
    }
    any
}

/// Refuses our attributes inside `cfg_attr`, where we would see them only after this block is done.
fn refuse_conditional_roles(attrs: &mut Vec<Attribute>, krate: Option<&Path>, faults: &mut Faults) {
    attrs.retain(|attr| {
        let Meta::List(list) = &attr.meta else {
            return true;
        };
        if !list.path.is_ident("cfg_attr") {
            return true;
        }
        let Some((_, metas)) = types::cfg_attr(list) else {
            return true;
        };
        let Some((meta, role)) = metas
            .iter()
            .find_map(|meta| Some((meta, Role::of(meta.path(), krate)?)))
        else {
            return true;
        };
        let message = format!(
            "`#[{0}]` cannot be conditional: write `#[{0}]` and put `#[cfg(..)]` on the method",
            role.name()
        );
        faults.on(meta.path(), message);
        false
    });
}

/// Refuses a second `#[agent]` on one item.
fn drop_second_agent(attrs: &mut Vec<Attribute>, krate: Option<&Path>, faults: &mut Faults) {
    attrs.retain(|attr| {
        let second = attr
            .path()
            .segments
            .last()
            .is_some_and(|last| last.ident == "agent")
            && on::is_ours(attr.path(), krate);
        if second {
            faults.on(attr, "a second `#[agent]`: write all keys in one");
        }
        !second
    });
}

#[cfg(test)]
mod tests;
