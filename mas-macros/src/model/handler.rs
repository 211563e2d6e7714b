//! One method of an `#[agent] impl`: which messages it takes, what it is given, what it gives back.

use proc_macro2::Span;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{
    Attribute, FnArg, GenericArgument, Ident, ImplItemFn, LitStr, Pat, PatType, PathSegment,
    Receiver, ReceiverKind, ReturnType, Safety, Signature, Type, TypeReference,
};

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

/// What a handler is given besides `self`.
pub(crate) enum Param {
    /// The payload, with the name that the typed call gives it.
    Payload {
        name: Option<Ident>,
        ty: Box<Type>,
    },
    Envelope,
    Context {
        mutable: bool,
    },
}

/// What a handler gives back.
pub(crate) enum Reply {
    Unit,
    Value(Type),
    /// A `Result`; without a type it carries nothing.
    Fallible(Outcome),
    Stream(Type),
    /// A stream of `Result`s.
    TryStream(Outcome),
    /// It could not be read; the method is faulty.
    Unknown,
}

/// A type called `Result`, as far as its tokens tell.
pub(crate) struct Outcome {
    /// What it carries when all is well; nothing for a `Result` without arguments.
    pub(crate) value: Option<Type>,
    /// Its error, where it is written.
    pub(crate) error: Option<Type>,
    /// Where the word `Result` stands.
    pub(crate) span: Span,
}

impl Outcome {
    /// Reads a path segment that is called `Result`.
    fn new(segment: &PathSegment) -> Self {
        let mut arguments = types::arguments(segment)
            .into_iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            });
        Self {
            value: arguments.next(),
            error: arguments.next(),
            span: segment.ident.span(),
        }
    }
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
        modifiers(signature, faults);
        let exclusive = receiver(signature, role, faults);
        let params = params(signature, agent, exclusive.unwrap_or(true), hook, faults);
        let reply = if hook {
            Reply::Unit
        } else {
            reply(signature, faults)
        };
        let fallible = hook && hook_returns(signature, role, faults);
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
        let loose = (faults.count() > before).then(|| payload_like(signature));
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

/// How many parameters are neither the envelope nor a context.
fn payload_like(signature: &Signature) -> usize {
    let other = |ty: &Type| {
        let ty = match types::bare(ty) {
            Type::Reference(reference) => &reference.elem,
            other => other,
        };
        types::is_named(ty, "Context") || types::is_named(ty, "Envelope")
    };
    signature
        .inputs
        .iter()
        .filter(|input| matches!(input, FnArg::Typed(input) if !other(&input.ty)))
        .count()
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

/// Refuses what no handler can have: `unsafe`, `extern`, `const`, generics.
fn modifiers(signature: &Signature, faults: &mut Faults) {
    if let Some(token) = &signature.constness {
        faults.on(token, "a handler is not `const`: leave the word out");
    }
    if let Safety::Unsafe(token) = &signature.safety {
        faults.on(
            token,
            "a handler is not `unsafe`: leave the word out, and put the unsafe block inside",
        );
    }
    if let Some(abi) = &signature.abi {
        faults.on(abi, "a handler has no ABI of its own: leave `extern` out");
    }
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
}

/// Whether the method takes `&mut self`, or `&self`; nothing when it takes neither.
fn receiver(signature: &Signature, role: Role, faults: &mut Faults) -> Option<bool> {
    let Some(receiver) = signature.receiver() else {
        let what = match role {
            Role::Start | Role::Stop => "write `&mut self` first",
            _ => "write `&mut self` (runs alone) or `&self` (runs side by side) first",
        };
        faults.on(&signature.ident, format!("a handler is a method: {what}"));
        return None;
    };
    let mutable = by_reference(receiver);
    if mutable.is_none() {
        let message = "a handler borrows its agent: write `&mut self` (runs alone) or `&self` (runs side by side)";
        faults.on(receiver, message);
    }
    mutable
}

/// Whether a receiver is `&mut self`, or `&self`; nothing when it is neither.
fn by_reference(receiver: &Receiver) -> Option<bool> {
    match &receiver.kind {
        ReceiverKind::Reference(_, None, mutable) => Some(mutable.is_some()),
        ReceiverKind::Typed(_, ty) => match types::bare(ty) {
            Type::Reference(reference)
                if reference.lifetime.is_none() && types::is_named(&reference.elem, "Self") =>
            {
                Some(reference.mutability.is_some())
            }
            _ => None,
        },
        _ => None,
    }
}

/// The parameters after the receiver.
fn params(
    signature: &Signature,
    agent: &Type,
    exclusive: bool,
    hook: bool,
    faults: &mut Faults,
) -> Vec<Param> {
    let mut params: Vec<Param> = Vec::new();
    for input in &signature.inputs {
        let FnArg::Typed(input) = input else { continue };
        if let Some(attr) = input
            .attrs
            .iter()
            .find(|attr| attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr"))
        {
            faults.on(
                attr,
                "a parameter of a handler is not conditional: put `#[cfg(..)]` on the method",
            );
        }
        let Some(param) = faults.keep(param(input, agent, exclusive)) else {
            continue;
        };
        if let Some(message) = second(&params, &param, hook) {
            faults.on(&input.ty, message);
            continue;
        }
        params.push(param);
    }
    params
}

/// Why a parameter cannot follow those before it.
fn second(before: &[Param], param: &Param, hook: bool) -> Option<&'static str> {
    if hook && !matches!(param, Param::Context { .. }) {
        return Some("there is no message here: take `ctx: &mut Context<Self>`, or nothing");
    }
    let twice = before
        .iter()
        .any(|before| std::mem::discriminant(before) == std::mem::discriminant(param));
    twice.then_some(match param {
        Param::Payload { .. } => {
            "a second payload: a message carries one, so put both into one struct"
        }
        Param::Envelope => "a second `Envelope`: keep one",
        Param::Context { .. } => "a second context: keep one",
    })
}

/// What one parameter is.
fn param(input: &PatType, agent: &Type, exclusive: bool) -> syn::Result<Param> {
    let fault = |message: String| Err(syn::Error::new_spanned(&input.ty, message));
    let ty = types::bare(&input.ty);
    if let Type::Reference(reference) = ty {
        return reference_param(input, reference, agent, exclusive);
    }
    if types::is_named(ty, "Context") {
        let wanted = if exclusive {
            "&mut Context<Self>"
        } else {
            "&Context<Self>"
        };
        return fault(format!(
            "a handler borrows its context: write `{}: {wanted}`",
            shown_name(input, "ctx")
        ));
    }
    if types::is_named(ty, "Envelope") {
        return Ok(Param::Envelope);
    }
    if let Some(token) = types::impl_token(ty) {
        return Err(syn::Error::new(
            token.span(),
            "a payload has a named type: write the type itself instead of `impl`",
        ));
    }
    if let Some(lifetime) = types::borrowed(ty) {
        let message = "a payload owns its parts, for the message is gone before the handler ends: leave borrowed types out";
        return Err(syn::Error::new(lifetime.span(), message));
    }
    let name = match &*input.pat {
        Pat::Ident(pat) if pat.subpat.is_none() => Some(pat.ident.clone()),
        _ => None,
    };
    Ok(Param::Payload {
        name,
        ty: input.ty.clone(),
    })
}

/// What a parameter taken by reference is: a context, or a fault.
fn reference_param(
    input: &PatType,
    reference: &TypeReference,
    agent: &Type,
    exclusive: bool,
) -> syn::Result<Param> {
    let fault = |message: String| Err(syn::Error::new_spanned(&input.ty, message));
    let Some(segment) =
        types::last_segment(&reference.elem).filter(|segment| segment.ident == "Context")
    else {
        if types::is_named(&reference.elem, "Envelope") {
            return fault(format!(
                "the envelope is taken by value: write `{}: Envelope`",
                shown_name(input, "envelope")
            ));
        }
        let owned = match types::bare(&reference.elem) {
            Type::Slice(slice) => format!("Vec<{}>", shown(&slice.elem)),
            elem if types::is_named(elem, "str") => "String".to_owned(),
            elem => shown(elem),
        };
        return fault(format!(
            "a payload is taken by value: write `{}: {owned}`",
            shown_name(input, "payload")
        ));
    };
    let of_agent = types::first_argument(segment)
        .is_none_or(|of| types::is_named(of, "Self") || same(of, agent));
    if !of_agent {
        let mutable = if reference.mutability.is_some() && exclusive {
            "mut "
        } else {
            ""
        };
        return fault(format!(
            "a handler's context is its own agent's: write `&{mutable}Context<Self>`"
        ));
    }
    if reference.mutability.is_some() && !exclusive {
        return fault("a `&self` handler shares its context with others: write `&Context<Self>`, or take `&mut self`".into());
    }
    Ok(Param::Context {
        mutable: reference.mutability.is_some(),
    })
}

/// The name of a parameter, or another where it has none.
fn shown_name(input: &PatType, otherwise: &str) -> String {
    match &*input.pat {
        Pat::Ident(pat) => pat.ident.unraw().to_string(),
        _ => otherwise.to_owned(),
    }
}

/// A type as text for a message, without the spaces between its tokens.
fn shown(ty: &Type) -> String {
    let text = ty.to_token_stream().to_string();
    [
        (" :: ", "::"),
        (" < ", "<"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        ("& ", "&"),
    ]
    .iter()
    .fold(text, |text, (from, to)| text.replace(from, to))
}

/// Whether two types are written alike.
fn same(left: &Type, right: &Type) -> bool {
    left.to_token_stream().to_string() == right.to_token_stream().to_string()
}

/// What a handler gives back.
fn reply(signature: &Signature, faults: &mut Faults) -> Reply {
    let before = faults.count();
    let reply = match &signature.output {
        ReturnType::Default => Reply::Unit,
        ReturnType::Type(_, ty) => match types::bare(ty) {
            Type::ImplTrait(_) => return streamed(signature, ty, faults),
            Type::Tuple(tuple) if tuple.elems.is_empty() => Reply::Unit,
            _ => value(ty, faults),
        },
    };
    if signature.asyncness.is_none() && faults.count() == before {
        let name = signature.ident.unraw();
        let message = format!("a handler is async unless it streams: write `async fn {name}`");
        faults.at(signature.fn_token.span, message);
    }
    if faults.count() > before && signature.asyncness.is_some() {
        Reply::Unknown
    } else {
        reply
    }
}

/// A reply of `impl Trait`: a stream, or a fault.
fn streamed(signature: &Signature, ty: &Type, faults: &mut Faults) -> Reply {
    let Type::ImplTrait(opaque) = types::bare(ty) else {
        return Reply::Unknown;
    };
    let Some(bound) = types::bound_named(opaque, "Stream") else {
        let message = match (types::bound_named(opaque, "Future"), &signature.asyncness) {
            (Some(bound), None) => {
                let output = types::associated(bound, "Output").map_or_else(|| "Reply".to_owned(), shown);
                format!("a handler is an `async fn`: write `async fn {} (..) -> {output}`", signature.ident).replace(" (", "(")
            }
            _ => "a reply has a named type: write the type itself, or `impl Stream<Item = T>` without `async`".to_owned(),
        };
        faults.on(ty, message);
        return Reply::Unknown;
    };
    if let Some(token) = &signature.asyncness {
        faults.on(
            token,
            "a handler that streams is not async, its stream waits: leave `async` out",
        );
    }
    let Some(item) = types::associated(bound, "Item") else {
        faults.on(
            &bound.path,
            "the stream must say what it yields: write `impl Stream<Item = T>`",
        );
        return Reply::Unknown;
    };
    if !owned(item, "an item of a stream", faults) {
        return Reply::Unknown;
    }
    match types::last_segment(item) {
        Some(segment) if segment.ident == "Result" => Reply::TryStream(Outcome::new(segment)),
        _ => Reply::Stream(item.clone()),
    }
}

/// A reply of a named type: a value, or a `Result` of one.
fn value(ty: &Type, faults: &mut Faults) -> Reply {
    if !owned(ty, "a reply", faults) {
        return Reply::Unknown;
    }
    match types::last_segment(ty) {
        Some(segment) if segment.ident == "Result" => Reply::Fallible(Outcome::new(segment)),
        _ => Reply::Value(ty.clone()),
    }
}

/// Whether a reply's type is named and owns its parts. A reference at the top is fine: it is copied.
fn owned(ty: &Type, what: &str, faults: &mut Faults) -> bool {
    if let Some(token) = types::impl_token(ty) {
        faults.at(
            token.span(),
            format!("{what} has a named type: write the type itself instead of `impl`"),
        );
        return false;
    }
    let inner = match types::last_segment(ty) {
        Some(segment) if segment.ident == "Result" => types::first_argument(segment),
        _ => Some(types::bare(ty)),
    };
    let Some(inner) = inner else { return true };
    let borrowed = match types::bare(inner) {
        Type::Reference(reference) => {
            if let Some(mutable) = &reference.mutability {
                faults.on(
                    mutable,
                    format!("{what} is not borrowed mutably: leave `mut` out, or return the value"),
                );
                return false;
            }
            types::borrowed(&reference.elem)
        }
        other => types::borrowed(other),
    };
    if let Some(lifetime) = borrowed {
        faults.at(
            lifetime.span(),
            format!("{what} owns its parts, for it outlives the handler: leave borrowed types out"),
        );
        return false;
    }
    true
}

/// Whether a hook returns a `Result`; refuses anything but that and nothing.
fn hook_returns(signature: &Signature, role: Role, faults: &mut Faults) -> bool {
    if signature.asyncness.is_none() {
        let message = format!(
            "`#[{}]` stands on an async method: write `async fn {}`",
            role.name(),
            signature.ident
        );
        faults.at(signature.fn_token.span, message);
    }
    let ReturnType::Type(_, ty) = &signature.output else {
        return false;
    };
    match types::bare(ty) {
        Type::Tuple(tuple) if tuple.elems.is_empty() => false,
        other => {
            let unit = types::last_segment(other).filter(|segment| segment.ident == "Result").is_some_and(|segment| {
                let arguments = types::arguments(segment);
                match arguments.first() {
                    None => true,
                    Some(GenericArgument::Type(first)) => matches!(types::bare(first), Type::Tuple(tuple) if tuple.elems.is_empty()),
                    Some(_) => false,
                }
            });
            if !unit {
                faults.on(
                    ty,
                    format!(
                        "`#[{}]` returns nothing or `Result<()>`: nobody waits for a reply",
                        role.name()
                    ),
                );
            }
            unit
        }
    }
}
