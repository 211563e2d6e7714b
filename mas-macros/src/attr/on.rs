//! The attributes of handlers: `#[on("..")]`, `#[on_start]`, `#[on_stop]`, `#[on_any]`.

use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Lit, LitStr, Meta, Path, Result, Token};

use crate::names;

/// What a method of an `#[agent] impl` is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Handles one message type.
    On,
    /// Runs before the first message.
    Start,
    /// Runs after the last message.
    Stop,
    /// Handles what nobody else does.
    Any,
}

impl Role {
    /// The attribute's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Start => "on_start",
            Self::Stop => "on_stop",
            Self::Any => "on_any",
        }
    }

    /// The role that an attribute gives, if it is one of ours: written bare, or under `mas` or the user's crate path.
    pub(crate) fn of(path: &Path, krate: Option<&Path>) -> Option<Self> {
        let last = path.segments.last()?;
        let role = [Self::On, Self::Start, Self::Stop, Self::Any]
            .into_iter()
            .find(|role| last.ident == role.name())?;
        is_ours(path, krate).then_some(role)
    }
}

/// Whether a path is one word, or stands under `mas` or the user's crate path.
pub(crate) fn is_ours(path: &Path, krate: Option<&Path>) -> bool {
    let Some(first) = path.segments.first() else {
        return false;
    };
    let krate = krate.and_then(|krate| krate.segments.first());
    path.segments.len() == 1
        || first.ident == "mas"
        || krate.is_some_and(|krate| krate.ident == first.ident)
}

/// The message type of an `#[on("..")]`.
pub(crate) fn message_type(attr: &Attribute) -> Result<LitStr> {
    let example = "write `#[on(\"task.process\")]`";
    let list = match &attr.meta {
        Meta::Path(_) => {
            return Err(Error::new_spanned(
                attr,
                format!("`#[on]` names a message type: {example}"),
            ));
        }
        Meta::NameValue(pair) => {
            let message = format!("`#[on]` takes its message type in parentheses: {example}");
            return Err(Error::new_spanned(&pair.value, message));
        }
        Meta::List(list) => list,
    };
    if list.tokens.is_empty() {
        return Err(Error::new_spanned(
            attr,
            format!("`#[on]` names a message type: {example}"),
        ));
    }
    let not_literal = || {
        Error::new_spanned(
            &list.tokens,
            format!("a message type is a string literal: {example}"),
        )
    };
    let entries = attr
        .parse_args_with(Punctuated::<Lit, Token![,]>::parse_terminated)
        .map_err(|_| not_literal())?;
    if let Some(second) = entries.iter().nth(1) {
        return Err(Error::new_spanned(
            second,
            "one message type for each `#[on]`: write a second `#[on(\"..\")]` above the method",
        ));
    }
    match entries.into_iter().next() {
        Some(Lit::Str(literal)) => match names::name_fault("the message type", &literal.value()) {
            Some(fault) => Err(Error::new(literal.span(), fault)),
            None => Ok(literal),
        },
        _ => Err(not_literal()),
    }
}

/// That an attribute stands alone, without arguments.
pub(crate) fn bare(attr: &Attribute, role: Role) -> Result<()> {
    match &attr.meta {
        Meta::Path(_) => Ok(()),
        _ => Err(Error::new_spanned(
            attr,
            format!("`#[{0}]` takes no arguments: write `#[{0}]`", role.name()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn a_message_type_is_one_valid_string_literal() {
        assert_eq!(
            message_type(&parse_quote!(#[on("task.process")]))
                .map(|t| t.value())
                .ok(),
            Some("task.process".into())
        );
        assert_eq!(
            message_type(&parse_quote!(#[on("a",)]))
                .map(|t| t.value())
                .ok(),
            Some("a".into())
        );
        let faults: [Attribute; 8] = [
            parse_quote!(#[on]),
            parse_quote!(#[on()]),
            parse_quote!(#[on = "a"]),
            parse_quote!(#[on(task)]),
            parse_quote!(#[on(7)]),
            parse_quote!(#[on("a", "b")]),
            parse_quote!(#[on("")]),
            parse_quote!(#[on("a b")]),
        ];
        for attr in &faults {
            assert!(message_type(attr).is_err());
        }
    }

    #[test]
    fn roles_are_known_bare_and_under_the_crate() {
        let krate: Path = parse_quote!(::other);
        assert_eq!(Role::of(&parse_quote!(on), None), Some(Role::On));
        assert_eq!(Role::of(&parse_quote!(mas::on_any), None), Some(Role::Any));
        assert_eq!(
            Role::of(&parse_quote!(::mas::prelude::on_stop), None),
            Some(Role::Stop)
        );
        assert_eq!(
            Role::of(&parse_quote!(other::on_start), Some(&krate)),
            Some(Role::Start)
        );
        assert_eq!(Role::of(&parse_quote!(rocket::on), None), None);
        assert_eq!(Role::of(&parse_quote!(tracing::instrument), None), None);
    }
}
