//! The values of keys, each with an error that shows how the value is written.

use std::ops::RangeInclusive;
use std::time::Duration;

use proc_macro2::{Span, TokenTree};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{
    Error, Expr, ExprPath, Ident, LitInt, LitStr, Path, Result, Token, Type, bracketed, token,
};

use crate::names;

/// Takes the `=` of a key. `example` shows the whole option as it should stand.
pub(super) fn equals(key: &Ident, input: ParseStream<'_>, example: &str) -> Result<()> {
    if input.peek(Token![=]) && !input.peek(Token![==]) {
        input.parse::<Token![=]>()?;
        if input.is_empty() || input.peek(Token![,]) {
            return Err(Error::new(
                key.span(),
                format!("`{key}` needs a value: write `{example}`"),
            ));
        }
        return Ok(());
    }
    Err(Error::new(
        key.span(),
        format!("`{key}` needs a value: write `{example}`"),
    ))
}

/// A string literal.
pub(super) fn string(key: &Ident, input: ParseStream<'_>, example: &str) -> Result<LitStr> {
    if input.peek(LitStr) {
        return input.parse();
    }
    if let Some((word, _)) = input.cursor().ident() {
        let message = format!("`{key}` is a string literal: write `{key} = \"{word}\"`");
        return Err(Error::new(word.span(), message));
    }
    Err(input.error(format!("`{key}` is a string literal: write `{example}`")))
}

/// One of a few words, as a string literal; gives the value that stands beside the word.
pub(super) fn word<T: Copy>(key: &Ident, input: ParseStream<'_>, words: &[(&str, T)]) -> Result<T> {
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let literal = string(key, input, &format!("{key} = {}", quoted(&known[..1])))?;
    let given = literal.value();
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == given) {
        return Ok(*value);
    }
    let hint = names::nearest(&given, &known)
        .map_or_else(String::new, |word| format!(": did you mean \"{word}\"?"));
    let message = format!(
        "unknown `{key}` \"{}\"{hint} (known: {})",
        given.escape_debug(),
        quoted(&known)
    );
    Err(Error::new(literal.span(), message))
}

/// Words in quotes, for a message.
pub(super) fn quoted(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A whole number within bounds, written out.
pub(super) fn number(
    key: &Ident,
    input: ParseStream<'_>,
    range: RangeInclusive<u64>,
    example: &str,
) -> Result<u64> {
    let (low, high) = (*range.start(), *range.end());
    let expected = format!("`{key}` is a whole number from {low} to {high}");
    let start = input.span();
    if input.peek(Token![-]) {
        let minus: Token![-] = input.parse()?;
        let rest: Option<LitInt> = input.parse().ok();
        return Err(Error::new_spanned(quote!(#minus #rest), expected));
    }
    let literal: Option<LitInt> = input.parse().ok();
    let ends = input.is_empty() || input.peek(Token![,]) || input.peek(Ident::peek_any);
    match literal {
        Some(literal) if ends => match literal.base10_parse::<u64>() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(Error::new(
                literal.span(),
                format!("{expected}, not {}", literal.base10_digits()),
            )),
        },
        _ => Err(Error::new(
            start,
            format!("{expected}, written out: `{example}`"),
        )),
    }
}

/// A span of time: a string literal with a unit, or whole seconds.
pub(super) fn duration(key: &Ident, input: ParseStream<'_>) -> Result<Duration> {
    let expected = format!(
        "`{key}` is a time like \"500ms\", \"30s\", \"2m\" or \"1h\", or whole seconds like 30"
    );
    let (span, time) = if input.peek(LitInt) {
        let literal: LitInt = input.parse()?;
        (
            literal.span(),
            literal.base10_parse().ok().map(Duration::from_secs),
        )
    } else if input.peek(LitStr) {
        let literal: LitStr = input.parse()?;
        (literal.span(), time(&literal.value()))
    } else {
        return Err(input.error(expected));
    };
    match time {
        Some(time) if time.is_zero() => Err(Error::new(
            span,
            format!(
                "`{key}` is zero, so that nothing could run: write a time like \"30s\", or leave the key out"
            ),
        )),
        Some(time) => Ok(time),
        None => Err(Error::new(span, expected)),
    }
}

/// A number with a unit.
fn time(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// A type, bare.
pub(super) fn ty(key: &Ident, input: ParseStream<'_>, example: &str) -> Result<Type> {
    if input.peek(LitStr) {
        let literal: LitStr = input.parse()?;
        let message = format!(
            "`{key}` is a type, without quotes: write `{key} = {}`",
            literal.value()
        );
        return Err(Error::new(literal.span(), message));
    }
    let start = input.span();
    input
        .parse()
        .map_err(|_| Error::new(start, format!("`{key}` is a type: write `{example}`")))
}

/// The path of a function, bare or in a string literal.
pub(super) fn function(key: &Ident, input: ParseStream<'_>, example: &str) -> Result<ExprPath> {
    let expected = format!("`{key}` is the path of a function: write `{example}`");
    if input.peek(LitStr) {
        let literal: LitStr = input.parse()?;
        return literal
            .parse()
            .map_err(|_| Error::new(literal.span(), expected));
    }
    let start = input.span();
    match input.parse::<Expr>() {
        Ok(Expr::Path(path)) => Ok(path),
        Ok(other) => Err(Error::new(other.span(), expected)),
        Err(_) => Err(Error::new(start, expected)),
    }
}

/// The path of a crate, in a string literal.
pub(super) fn krate(key: &Ident, input: ParseStream<'_>) -> Result<Path> {
    let literal = string(key, input, "crate = \"::mas\"")?;
    let mut path = literal.parse_with(Path::parse_mod_style).map_err(|_| {
        Error::new(
            literal.span(),
            format!(
                "`{}` is not a path: write `crate = \"::mas\"`",
                literal.value().escape_debug()
            ),
        )
    })?;
    for segment in &mut path.segments {
        segment.ident.set_span(names::shown_at(literal.span()));
    }
    Ok(path)
}

/// A list of string literals in brackets.
pub(super) fn strings(key: &Ident, input: ParseStream<'_>, example: &str) -> Result<Vec<LitStr>> {
    if !input.peek(token::Bracket) {
        if input.peek(LitStr) {
            let literal: LitStr = input.parse()?;
            let message = format!(
                "`{key}` is a list: write `{key} = [\"{}\"]`",
                literal.value()
            );
            return Err(Error::new(literal.span(), message));
        }
        return Err(input.error(format!(
            "`{key}` is a list of string literals: write `{example}`"
        )));
    }
    let content;
    bracketed!(content in input);
    let mut entries = Vec::new();
    while !content.is_empty() {
        entries.push(string(key, &content, example)?);
        if !content.is_empty() && content.parse::<Token![,]>().is_err() {
            return Err(content.error(format!("expected `,` between the entries of `{key}`")));
        }
    }
    Ok(entries)
}

/// One `key = "value"` of a map in braces. The key is a word, or a string literal where it is none.
pub(super) fn pair(key: &Ident, input: ParseStream<'_>) -> Result<(String, Span, LitStr)> {
    let expected = format!("`{key}` holds pairs: write `{key} = {{ owner = \"search\" }}`");
    let (name, span) = if input.peek(LitStr) {
        let literal: LitStr = input.parse()?;
        (literal.value(), literal.span())
    } else if input.peek(Ident::peek_any) {
        let ident = input.call(Ident::parse_any)?;
        (ident.unraw().to_string(), ident.span())
    } else {
        return Err(input.error(expected));
    };
    if input.peek(Token![:]) {
        return Err(input.error(format!(
            "write `=` between a key and its value: `{name} = \"..\"`"
        )));
    }
    input
        .parse::<Token![=]>()
        .map_err(|error| Error::new(error.span(), expected))?;
    if !input.peek(LitStr) {
        return Err(input.error(format!(
            "the value of `{name}` is a string literal: write `{name} = \"..\"`"
        )));
    }
    Ok((name, span, input.parse()?))
}

/// Drops what is left of an entry, up to the next comma.
pub(super) fn skip_entry(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        if input.parse::<TokenTree>().is_err() {
            return;
        }
    }
}

/// Runs a parser that takes every token itself, whatever it finds.
pub(super) fn all<T>(
    tokens: proc_macro2::TokenStream,
    parse: impl FnOnce(ParseStream<'_>) -> T,
) -> Option<T> {
    (|input: ParseStream<'_>| Ok(parse(input)))
        .parse2(tokens)
        .ok()
}
