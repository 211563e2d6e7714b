//! One method of an `#[agent] impl`: which messages it takes, what it is given, what it gives back.

use syn::{
    Attribute, Ident, ImplItemFn, Lifetime, LitStr, Receiver, ReceiverKind, Safety, Signature, Type,
};

use super::params::{self, Param};
use super::reply::{self, Reply};
use super::types;
use crate::attr::on::{self, Role};
use crate::faults::Faults;

/// A method that one of our attributes marks.
pub(crate) enum Method {
    Handler(Box<Handler>),
    Start(Box<Hook>),
    Stop(Box<Hook>),
}

/// A method that handles messages.
pub(crate) struct Handler {
    pub(crate) name: Ident,
    /// The attributes that the user wrote on the method, without ours.
    pub(crate) attrs: Vec<Attribute>,
    /// The message types, each with the number under which the table knows it.
    pub(crate) types: Vec<(u16, LitStr)>,
    /// The number and the attribute of `#[on_any]`.
    pub(crate) any: Option<(u16, Attribute)>,
    /// Whether it takes `&mut self` and so runs alone.
    pub(crate) exclusive: bool,
    pub(crate) params: Vec<Param>,
    pub(crate) reply: Reply,
    /// How many parameters could be a payload, where the method has a fault and that is all that is known.
    pub(crate) loose: Option<usize>,
}

/// A method that runs at the agent's start or stop.
pub(crate) struct Hook {
    pub(crate) name: Ident,
    /// The attribute that marks it.
    pub(crate) attr: Attribute,
    pub(crate) attrs: Vec<Attribute>,
    /// Its parameters: its context or nothing.
    pub(crate) params: Vec<Param>,
    /// Whether it returns a `Result`.
    pub(crate) fallible: bool,
}

impl Handler {
    /// Whether the reply is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(self.reply, Reply::Stream(_) | Reply::TryStream(_))
    }

    /// The payload's name and type, if it takes one.
    pub(crate) fn payload(&self) -> Option<(Option<&Ident>, &Type)> {
        self.params.iter().find_map(|param| match param {
            Param::Payload { name, ty } => Some((name.as_ref(), &**ty)),
            _ => None,
        })
    }
}

impl Method {
    /// Reads a method that carries `roles`, of which there is at least one. `index` numbers the entries of the table.
    pub(crate) fn new(
        roles: &[(Attribute, Role)],
        function: &ImplItemFn,
        agent: &Type,
        index: &mut u16,
        faults: &mut Faults,
    ) -> Self {
        let before = faults.count();
        let role = one_role(roles, faults);
        let signature = &function.sig;
        let hook = matches!(role, Role::Start | Role::Stop);
        let plain = modifiers(signature, faults);
        let exclusive = receiver(signature, role, faults);
        let params = params::params(
            signature,
            agent,
            hook || exclusive.unwrap_or(true),
            hook,
            faults,
        );
        let reply = if hook {
            Reply::Unit
        } else {
            reply::reply(signature, plain, faults)
        };
        let fallible = hook && reply::of_hook(signature, role, plain, faults);
        let attrs = function.attrs.clone();
        let name = signature.ident.clone();
        if hook {
            let attr = roles[0].0.clone();
            let hook = Box::new(Hook {
                name,
                attr,
                attrs,
                params,
                fallible,
            });
            return if role == Role::Start {
                Self::Start(hook)
            } else {
                Self::Stop(hook)
            };
        }
        let types = message_types(roles, index, faults);
        let any = roles
            .iter()
            .find(|(_, role)| *role == Role::Any)
            .map(|(attr, _)| (next(index), attr.clone()));
        let loose = (faults.count() > before).then(|| params::payload_like(signature));
        let exclusive = exclusive.unwrap_or(true);
        Self::Handler(Box::new(Handler {
            name,
            attrs,
            types,
            any,
            exclusive,
            params,
            reply,
            loose,
        }))
    }
}

/// The role of a method: several `#[on]`s, or one of the others.
fn one_role(roles: &[(Attribute, Role)], faults: &mut Faults) -> Role {
    let (first, role) = (&roles[0].0, roles[0].1);
    for (attr, other) in &roles[1..] {
        if *other == role && role != Role::On {
            faults.on(
                attr,
                format!("`#[{}]` is there twice: keep one", role.name()),
            );
        } else if *other != role {
            let message = format!(
                "this method has `#[{}]` already: write a second method",
                role.name()
            );
            faults.on(attr, message);
        }
    }
    if role != Role::On {
        faults.keep(on::bare(first, role));
    }
    role
}

/// A handler's message types with their numbers in the table.
fn message_types(
    roles: &[(Attribute, Role)],
    index: &mut u16,
    faults: &mut Faults,
) -> Vec<(u16, LitStr)> {
    let attrs = roles.iter().filter(|(_, role)| *role == Role::On);
    let mut types = Vec::new();
    for (attr, _) in attrs {
        if let Some(message_type) = faults.keep(on::message_type(attr)) {
            types.push((next(index), message_type));
        }
    }
    types
}

/// Gives the next number of the table.
fn next(index: &mut u16) -> u16 {
    let number = *index;
    *index = index.saturating_add(1);
    number
}

/// Refuses what no handler can have: `unsafe`, `extern`, `const`, generics. Says whether it had none of the first.
fn modifiers(signature: &Signature, faults: &mut Faults) -> bool {
    let before = faults.count();
    let name = &signature.ident;
    if let Some(token) = &signature.constness {
        faults.on(
            token,
            format!("a handler is not `const`: write `async fn {name}`"),
        );
    }
    if let Safety::Unsafe(token) = &signature.safety {
        faults.on(
            token,
            "a handler is not `unsafe`: leave the word out, and put an unsafe block inside",
        );
    }
    if let Some(abi) = &signature.abi {
        faults.on(
            abi,
            format!("a handler has no ABI of its own: write `async fn {name}`"),
        );
    }
    let plain = faults.count() == before;
    if !signature.generics.params.is_empty() {
        let params = &signature.generics.params;
        faults.on(
            params,
            "a handler has no generics: name the types, or put the parameters on the agent",
        );
    } else if let Some(clause) = &signature.generics.where_clause {
        faults.on(
            clause,
            "a handler has no `where`: put the bounds on the impl block",
        );
    }
    plain
}

/// Whether the method takes `&mut self`, or `&self`; nothing when it takes neither.
fn receiver(signature: &Signature, role: Role, faults: &mut Faults) -> Option<bool> {
    let (what, write) = match role {
        Role::Start | Role::Stop => (format!("`#[{}]`", role.name()), "write `&mut self`"),
        _ => (
            "a handler".to_owned(),
            "write `&mut self` (runs alone) or `&self` (runs side by side)",
        ),
    };
    let Some(receiver) = signature.receiver() else {
        faults.on(
            &signature.ident,
            format!("{what} needs its agent: {write} as first parameter"),
        );
        return None;
    };
    let Some((mutable, lifetime)) = by_reference(receiver) else {
        faults.on(receiver, format!("{what} borrows its agent: {write}"));
        return None;
    };
    // A lifetime that the method declares is told with its generics.
    let declared = |lifetime: &&Lifetime| {
        signature
            .generics
            .lifetimes()
            .any(|param| param.lifetime == **lifetime)
    };
    if let Some(lifetime) = lifetime.filter(|lifetime| !declared(lifetime)) {
        faults.on(
            lifetime,
            format!("{what} borrows its agent only while it runs: leave the lifetime out"),
        );
    }
    Some(mutable)
}

/// Whether a receiver is `&mut self` or `&self`, and for how long; nothing when it is neither.
fn by_reference(receiver: &Receiver) -> Option<(bool, Option<&Lifetime>)> {
    match &receiver.kind {
        ReceiverKind::Reference(_, lifetime, mutable) => {
            Some((mutable.is_some(), lifetime.as_ref()))
        }
        ReceiverKind::Typed(_, ty) => match types::bare(ty) {
            Type::Reference(reference) if types::is_named(&reference.elem, "Self") => {
                Some((reference.mutability.is_some(), reference.lifetime.as_ref()))
            }
            _ => None,
        },
        _ => None,
    }
}
