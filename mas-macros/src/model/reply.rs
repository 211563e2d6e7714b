//! What a handler gives back: nothing, a value, a `Result`, a stream.

use proc_macro2::Span;
use syn::{GenericArgument, PathSegment, ReturnType, Signature, Type, TypeImplTrait};

use super::types;
use crate::attr::on::Role;
use crate::faults::Faults;

/// What a handler gives back.
pub(crate) enum Reply {
    /// Nothing.
    Unit,
    /// A value; a reference is copied.
    Value(Type),
    /// A `Result`; without a type it carries nothing.
    Fallible(Outcome),
    /// A stream of values.
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

/// What a handler gives back. `plain` says that its other words are fine; else they have been told what to write.
pub(crate) fn reply(signature: &Signature, plain: bool, faults: &mut Faults) -> Reply {
    let before = faults.count();
    let reply = match &signature.output {
        ReturnType::Default => Reply::Unit,
        ReturnType::Type(_, ty) => match types::bare(ty) {
            Type::ImplTrait(opaque) => return streamed(signature, ty, opaque, faults),
            _ if is_unit(ty) => Reply::Unit,
            _ => value(ty, faults),
        },
    };
    if signature.asyncness.is_none() && plain && faults.count() == before {
        let name = &signature.ident;
        let message = format!(
            "a handler is async: write `async fn {name}`, or return `impl Stream<Item = T>`"
        );
        faults.at(signature.fn_token.span, message);
    }
    reply
}

/// A reply of `impl Trait`: a stream, or a fault.
fn streamed(
    signature: &Signature,
    ty: &Type,
    opaque: &TypeImplTrait,
    faults: &mut Faults,
) -> Reply {
    let Some(bound) = types::bound_named(opaque, "Stream") else {
        let future = types::bound_named(opaque, "Future").filter(|_| signature.asyncness.is_none());
        let message = match future.and_then(|bound| types::associated(bound, "Output")) {
            Some(output) => {
                format!("a handler is async: write `async fn {}` and `-> {}`", signature.ident, types::shown(output))
            }
            None => "a reply has a named type: write it here, or `impl Stream<Item = T>` without `async`".to_owned(),
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
            format!("{what} owns its parts: write owned types, such as `String` for `&str`"),
        );
        return false;
    }
    true
}

/// Whether a hook returns a `Result`; refuses anything but that and nothing.
pub(crate) fn of_hook(signature: &Signature, role: Role, plain: bool, faults: &mut Faults) -> bool {
    if signature.asyncness.is_none() && plain {
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
    if is_unit(ty) {
        return false;
    }
    let fallible = types::last_segment(ty)
        .filter(|segment| segment.ident == "Result")
        .is_some_and(|segment| match types::arguments(segment).first() {
            None => true,
            Some(GenericArgument::Type(value)) => is_unit(value),
            Some(_) => false,
        });
    if !fallible {
        let message = format!(
            "`#[{}]` returns nothing or `Result<()>`: nobody waits for a reply",
            role.name()
        );
        faults.on(ty, message);
    }
    fallible
}

/// Whether a type is `()`.
fn is_unit(ty: &Type) -> bool {
    matches!(types::bare(ty), Type::Tuple(tuple) if tuple.elems.is_empty())
}
