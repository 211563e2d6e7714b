//! What is wrong with an item: all of it at once, each fault once, on the user's own token.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};

/// The faults found so far.
#[derive(Default)]
pub(crate) struct Faults {
    certain: Vec<syn::Error>,
    /// Those that are there only where a condition holds, which the compiler knows and we don't.
    possible: Vec<(TokenStream, syn::Error)>,
}

impl Faults {
    /// Adds a fault on `tokens`.
    pub(crate) fn on(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.certain.push(syn::Error::new_spanned(tokens, message));
    }

    /// Adds a fault at `span`.
    pub(crate) fn at(&mut self, span: Span, message: impl Display) {
        self.certain.push(syn::Error::new(span, message));
    }

    /// Adds a fault that a parser found.
    pub(crate) fn add(&mut self, error: syn::Error) {
        self.certain.push(error);
    }

    /// Adds a fault that is one only where `condition` holds, the inside of a `#[cfg]`.
    pub(crate) fn under(&mut self, condition: TokenStream, error: syn::Error) {
        self.possible.push((condition, error));
    }

    /// Keeps the value, or the fault.
    pub(crate) fn keep<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.certain.push(error);
                None
            }
        }
    }

    /// How many faults there certainly are: a stage compares before and after.
    pub(crate) fn count(&self) -> usize {
        self.certain.len()
    }

    /// The faults as `compile_error!`s, from the top of the item down.
    pub(crate) fn into_tokens(mut self) -> TokenStream {
        self.certain.sort_by_key(|error| place(error.span()));
        self.possible.sort_by_key(|(_, error)| place(error.span()));
        let certain = self.certain.iter().map(syn::Error::to_compile_error);
        let possible = self.possible.iter().map(|(condition, error)| {
            let error = error.to_compile_error();
            quote!(#[cfg(#condition)] #error)
        });
        certain.chain(possible).collect()
    }

    /// The texts of the faults, for tests.
    #[cfg(test)]
    pub(crate) fn texts(&self) -> Vec<String> {
        self.certain.iter().map(ToString::to_string).collect()
    }

    /// The faults that depend on a condition, for tests.
    #[cfg(test)]
    pub(crate) fn possible(&self) -> Vec<(String, String)> {
        self.possible
            .iter()
            .map(|(condition, error)| (condition.to_string(), error.to_string()))
            .collect()
    }
}

/// Line and column of a token. Outside the compiler, in tests, nothing is known of them.
fn place(span: Span) -> (usize, usize) {
    if !proc_macro::is_available() {
        return (0, 0);
    }
    let span = span.unwrap();
    (span.line(), span.column())
}
