//! What a handler is given besides `self`: its payload, the envelope, its context.

use syn::ext::IdentExt;
use syn::{FnArg, Ident, Pat, PatType, Signature, Type, TypeReference};

use super::types;
use crate::faults::Faults;

/// What a handler is given besides `self`.
pub(crate) enum Param {
    /// The payload, with the name that the typed call gives it.
    Payload { name: Option<Ident>, ty: Box<Type> },
    /// The whole envelope.
    Envelope,
    /// Its context, by `&mut` or by `&`.
    Context { mutable: bool },
}

/// What is said of a type that has the name of one of ours: it may be another.
const OWN_TYPE: &str = "if this is a type of your own, import it under another name";

/// The parameters after the receiver.
pub(crate) fn params(
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
            "a handler borrows its context: write `{}: {wanted}`; {OWN_TYPE}",
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
        let message = "a payload owns its parts: write owned types, such as `String` for `&str`";
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
                "the envelope is taken by value: write `{}: Envelope`; {OWN_TYPE}",
                shown_name(input, "envelope")
            ));
        }
        let owned = match types::bare(&reference.elem) {
            Type::Slice(slice) => format!("Vec<{}>", types::shown(&slice.elem)),
            elem if types::is_named(elem, "str") => "String".to_owned(),
            elem => types::shown(elem),
        };
        return fault(format!(
            "a payload is taken by value: write `{}: {owned}`",
            shown_name(input, "payload")
        ));
    };
    let of_agent = types::first_argument(segment)
        .is_none_or(|of| types::is_named(of, "Self") || types::same(of, agent));
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

/// How many parameters are neither the envelope nor a context.
pub(crate) fn payload_like(signature: &Signature) -> usize {
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
