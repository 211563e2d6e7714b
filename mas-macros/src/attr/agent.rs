//! The keys of `#[agent(..)]`.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Error, ExprPath, Ident, LitStr, Path, Result, Token, Type, braced, token};

use super::value;
use crate::faults::Faults;
use crate::names;

/// The keys of `#[agent(..)]` on a struct.
const ON_STRUCT: &[&str] = &[
    "id",
    "capabilities",
    "metadata",
    "state",
    "durable",
    "durability",
    "mailbox",
    "overflow",
    "concurrency",
    "restart",
    "strategy",
    "max_restarts",
    "max_attempts",
    "timeout",
    "security",
    "state_version",
    "validate",
    "migrate",
    "crate",
];

/// The keys of `#[agent(..)]` on an impl block.
const ON_IMPL: &[&str] = &["crate"];

/// The longest lane of a mailbox, in envelopes, and the most `&self` handlers at once: the runtime's limits.
const MAILBOX_MAX: u64 = 1_048_576;
const CONCURRENCY_MAX: u64 = 65_536;

/// The words of the keys that take one of a few, each beside the variant that it stands for.
const OVERFLOW: &[(&str, &str)] = &[
    ("wait", "Wait"),
    ("refuse", "Refuse"),
    ("drop_newest", "DropNewest"),
    ("drop_oldest", "DropOldest"),
];
const DURABILITY: &[(&str, &str)] = &[
    ("durable", "Durable"),
    ("buffered", "Buffered"),
    ("memory", "Memory"),
];
const RESTART: &[(&str, &str)] = &[
    ("on_failure", "OnFailure"),
    ("always", "Always"),
    ("never", "Never"),
];
const STRATEGY: &[(&str, &str)] = &[
    ("one_for_one", "OneForOne"),
    ("one_for_all", "OneForAll"),
    ("rest_for_one", "RestForOne"),
];

/// The levels of protection that are built, and those that are not yet.
const LEVELS: &[&str] = &["direct"];
const LEVELS_TO_COME: &[&str] = &["guarded", "sealed"];

/// What `#[agent(..)]` on a struct says.
#[derive(Default)]
pub(crate) struct AgentArgs {
    pub(crate) krate: Option<Path>,
    pub(crate) id: Option<LitStr>,
    pub(crate) capabilities: Vec<LitStr>,
    pub(crate) metadata: Vec<(String, LitStr)>,
    pub(crate) state: Option<Type>,
    pub(crate) durable: bool,
    pub(crate) durability: Option<&'static str>,
    pub(crate) mailbox: Option<usize>,
    pub(crate) overflow: Option<&'static str>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) restart: Option<&'static str>,
    pub(crate) strategy: Option<&'static str>,
    pub(crate) max_restarts: Option<u32>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) state_version: Option<u32>,
    pub(crate) validate: Option<ExprPath>,
    pub(crate) migrate: Option<ExprPath>,
    /// The keys as they were written, for rules over several of them.
    pub(crate) keys: Vec<(String, Span)>,
}

impl AgentArgs {
    /// Whether a key was written, even with a value that is a fault.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|(given, _)| given == key)
    }
}

/// Parses the keys of a struct.
pub(crate) fn on_struct(tokens: TokenStream, faults: &mut Faults) -> AgentArgs {
    let mut args = AgentArgs::default();
    entries(tokens, ON_STRUCT, faults, |key, input, faults| {
        args.keys.push((key.unraw().to_string(), key.span()));
        args.set(key, input, faults)
    });
    args
}

/// Parses the keys of an impl block: only where the crate is.
pub(crate) fn on_impl(tokens: TokenStream, faults: &mut Faults) -> Option<Path> {
    let mut krate = None;
    entries(tokens, ON_IMPL, faults, |key, input, _| {
        value::equals(key, input, "crate = \"::mas\"")?;
        krate = Some(value::krate(key, input)?);
        Ok(())
    });
    krate
}

/// Walks over the entries, hands each known key to `set`, and goes on after a fault with the next entry.
fn entries(
    tokens: TokenStream,
    known: &[&str],
    faults: &mut Faults,
    mut set: impl FnMut(&Ident, ParseStream<'_>, &mut Faults) -> Result<()>,
) {
    value::all(tokens, |input| {
        let mut seen: Vec<String> = Vec::new();
        while !input.is_empty() {
            let entry = key(input, known, &seen).and_then(|key| {
                seen.push(key.unraw().to_string());
                set(&key, input, faults)
            });
            let clean = entry.is_ok();
            faults.keep(entry);
            if !clean {
                value::skip_entry(input);
            }
            if input.is_empty() || input.parse::<Token![,]>().is_ok() {
                continue;
            }
            faults.add(input.error("expected `,` before the next key"));
            if !input.peek(Ident::peek_any) {
                value::skip_entry(input);
                let _: Result<Token![,]> = input.parse();
            }
        }
    });
}

/// Takes a key that is known and new.
fn key(input: ParseStream<'_>, known: &[&str], seen: &[String]) -> Result<Ident> {
    if !input.peek(Ident::peek_any) {
        let hint = match input.fork().parse::<LitStr>() {
            Ok(id) if known == ON_STRUCT => format!(": write `id = \"{}\"`", id.value()),
            _ => format!(" (known: {})", names::list(known)),
        };
        return Err(input.error(format!("expected a key{hint}")));
    }
    let key = input.call(Ident::parse_any)?;
    let word = key.unraw().to_string();
    if !known.contains(&word.as_str()) {
        return Err(Error::new(key.span(), unknown(&word, known)));
    }
    if seen.contains(&word) {
        return Err(Error::new(
            key.span(),
            format!("`{word}` is given twice: keep one"),
        ));
    }
    Ok(key)
}

/// What is said of a key that is not `known` here.
fn unknown(word: &str, known: &[&str]) -> String {
    let here = names::list(known);
    if known == ON_STRUCT {
        let hint = names::nearest(word, known)
            .map_or_else(String::new, |word| format!(": did you mean `{word}`?"));
        return format!("unknown key `{word}`{hint} (known: {here})");
    }
    if ON_STRUCT.contains(&word) {
        return format!(
            "`{word}` stands on the struct: write `#[agent({word} ..)]` there and only `#[agent]` here"
        );
    }
    match names::nearest(word, ON_STRUCT) {
        Some(near) if known.contains(&near) => {
            format!("unknown key `{word}`: did you mean `{near}`?")
        }
        Some(near) => format!(
            "unknown key `{word}`: did you mean `{near}`? It stands on the struct, and only `#[agent]` here"
        ),
        None => {
            format!("unknown key `{word}` (known here: {here}; the others stand on the struct)")
        }
    }
}

impl AgentArgs {
    /// Takes the value of one key.
    fn set(&mut self, key: &Ident, input: ParseStream<'_>, faults: &mut Faults) -> Result<()> {
        let name = key.unraw().to_string();
        if name == "durable" {
            self.durable = true;
            return durable(key, input);
        }
        value::equals(key, input, example(&name))?;
        match name.as_str() {
            "id" => self.id = Some(id(key, input)?),
            "capabilities" => self.capabilities = capabilities(key, input, faults)?,
            "metadata" => self.metadata = metadata(key, input, faults)?,
            "state" => self.state = Some(value::ty(key, input, example(&name))?),
            "durability" => self.durability = Some(value::word(key, input, DURABILITY)?),
            "mailbox" => self.mailbox = Some(number(key, input, 1, MAILBOX_MAX)?),
            "overflow" => self.overflow = Some(value::word(key, input, OVERFLOW)?),
            "concurrency" => self.concurrency = Some(number(key, input, 1, CONCURRENCY_MAX)?),
            "restart" => self.restart = Some(value::word(key, input, RESTART)?),
            "strategy" => self.strategy = Some(value::word(key, input, STRATEGY)?),
            "max_restarts" => self.max_restarts = Some(number(key, input, 0, u32::MAX.into())?),
            "max_attempts" => self.max_attempts = Some(number(key, input, 1, u32::MAX.into())?),
            "timeout" => self.timeout = Some(value::duration(key, input)?),
            "security" => security(key, input)?,
            "state_version" => self.state_version = Some(number(key, input, 1, u32::MAX.into())?),
            "validate" => self.validate = Some(value::function(key, input, example(&name))?),
            "migrate" => self.migrate = Some(value::function(key, input, example(&name))?),
            _ => self.krate = Some(value::krate(key, input)?),
        }
        Ok(())
    }
}

/// How a key is written.
fn example(key: &str) -> &'static str {
    match key {
        "id" => "id = \"worker\"",
        "capabilities" => "capabilities = [\"nlp\", \"text\"]",
        "metadata" => "metadata = { owner = \"search\" }",
        "state" => "state = Tally",
        "durability" => "durability = \"buffered\"",
        "mailbox" => "mailbox = 1024",
        "overflow" => "overflow = \"wait\"",
        "concurrency" => "concurrency = 64",
        "restart" => "restart = \"on_failure\"",
        "strategy" => "strategy = \"one_for_one\"",
        "max_restarts" => "max_restarts = 3",
        "max_attempts" => "max_attempts = 5",
        "timeout" => "timeout = \"30s\"",
        "security" => "security = \"direct\"",
        "state_version" => "state_version = 2",
        "validate" => "validate = Tally::check",
        "migrate" => "migrate = Tally::migrate",
        _ => "crate = \"::mas\"",
    }
}

/// The flag `durable`. How durably is another key's to say.
fn durable(key: &Ident, input: ParseStream<'_>) -> Result<()> {
    let ahead = input.fork();
    let level = ahead.parse::<Token![=]>().and_then(|_| ahead.parse());
    let level = level.map(|level: LitStr| level.value());
    match level {
        Ok(level) if DURABILITY.iter().any(|(word, _)| *word == level) => Err(Error::new(
            key.span(),
            format!("`durable` takes no value: write `durable, durability = \"{level}\"`"),
        )),
        _ => flag(key, input),
    }
}

/// A key without a value.
fn flag(key: &Ident, input: ParseStream<'_>) -> Result<()> {
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(());
    }
    if input.peek(Token![=]) || input.peek(token::Paren) {
        return Err(Error::new(
            key.span(),
            format!("`{key}` takes no value: write `{key}`, or leave it out"),
        ));
    }
    Ok(())
}

/// A whole number that fits the type of its setting.
fn number<T: TryFrom<u64>>(key: &Ident, input: ParseStream<'_>, low: u64, high: u64) -> Result<T> {
    let example = example(&key.unraw().to_string());
    let number = value::number(key, input, low..=high, example)?;
    T::try_from(number).map_err(|_| {
        Error::new(
            key.span(),
            format!("`{key}` does not fit this machine: {number}"),
        )
    })
}

/// An agent id without a node.
fn id(key: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    let literal = value::string(key, input, example("id"))?;
    let id = literal.value();
    if let Some((name, node)) = id.split_once('@') {
        let message = format!(
            "an agent declares no node: write `id = \"{name}\"`; `@{node}` is how others reach it"
        );
        return Err(Error::new(literal.span(), message));
    }
    match names::name_fault("the agent id", &id) {
        Some(fault) => Err(Error::new(literal.span(), fault)),
        None => Ok(literal),
    }
}

/// A list of words, none empty and none twice.
fn capabilities(key: &Ident, input: ParseStream<'_>, faults: &mut Faults) -> Result<Vec<LitStr>> {
    let mut words: Vec<LitStr> = Vec::new();
    for word in value::strings(key, input, example("capabilities"))? {
        if word.value().trim().is_empty() {
            faults.at(
                word.span(),
                "a capability is a word that others search for: this one is empty",
            );
        } else if words.iter().any(|known| known.value() == word.value()) {
            faults.at(
                word.span(),
                format!("capability \"{}\" is listed twice: keep one", word.value()),
            );
        } else {
            words.push(word);
        }
    }
    Ok(words)
}

/// Pairs in braces, no key twice.
fn metadata(
    key: &Ident,
    input: ParseStream<'_>,
    faults: &mut Faults,
) -> Result<Vec<(String, LitStr)>> {
    if !input.peek(token::Brace) {
        return Err(input.error(format!(
            "`{key}` holds pairs in braces: write `{}`",
            example("metadata")
        )));
    }
    let content;
    braced!(content in input);
    let mut pairs: Vec<(String, LitStr)> = Vec::new();
    while !content.is_empty() {
        let (name, span, value) = value::pair(key, &content)?;
        if name.trim().is_empty() {
            faults.at(span, "a metadata key is empty");
        } else if pairs.iter().any(|(known, _)| *known == name) {
            faults.at(
                span,
                format!("metadata key `{name}` is given twice: keep one"),
            );
        } else {
            pairs.push((name, value));
        }
        if !content.is_empty() && content.parse::<Token![,]>().is_err() {
            return Err(content.error("expected `,` between two pairs"));
        }
    }
    Ok(pairs)
}

/// A level of protection that is built.
fn security(key: &Ident, input: ParseStream<'_>) -> Result<()> {
    let literal = value::string(key, input, example("security"))?;
    let level = literal.value();
    if LEVELS.contains(&level.as_str()) {
        return Ok(());
    }
    let advice = format!("write `{}`, or leave the key out", example("security"));
    let all: Vec<&str> = LEVELS.iter().chain(LEVELS_TO_COME).copied().collect();
    let message = if LEVELS_TO_COME.contains(&level.as_str()) {
        format!("level \"{level}\" is not built yet: {advice}")
    } else {
        let (built, to_come) = (value::quoted(LEVELS), value::quoted(LEVELS_TO_COME));
        let known = format!("(known: {built}; not built yet: {to_come})");
        let given = level.escape_debug();
        match names::nearest(&level, &all) {
            Some(near) if LEVELS.contains(&near) => {
                format!("unknown level \"{given}\": did you mean \"{near}\"? {known}")
            }
            Some(near) => format!(
                "unknown level \"{given}\": did you mean \"{near}\"? It is not built yet: {advice}"
            ),
            None => format!("unknown level \"{given}\": {advice} {known}"),
        }
    };
    Err(Error::new(literal.span(), message))
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn parse(tokens: TokenStream) -> (AgentArgs, Vec<String>) {
        let mut faults = Faults::default();
        let args = on_struct(tokens, &mut faults);
        (args, faults.texts())
    }

    #[test]
    fn every_key_is_taken() {
        let (args, faults) = parse(quote! {
            id = "w", capabilities = ["a", "b"], metadata = { owner = "x", "build.version" = "7" }, state = Map<u8, u8>,
            durable, durability = "memory", mailbox = 8, overflow = "drop_oldest", concurrency = 2, restart = "never", strategy = "one_for_all",
            max_restarts = 0, max_attempts = 1, timeout = "500ms", security = "direct", state_version = 2,
            validate = Tally::check, migrate = "tally::migrate", crate = "::other",
        });
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(args.id.map(|id| id.value()), Some("w".into()));
        assert_eq!(args.capabilities.len(), 2);
        assert_eq!(args.metadata[1].0, "build.version");
        assert_eq!(
            (args.mailbox, args.concurrency, args.max_restarts),
            (Some(8), Some(2), Some(0))
        );
        assert_eq!(
            (args.overflow, args.restart, args.strategy),
            (Some("DropOldest"), Some("Never"), Some("OneForAll"))
        );
        assert_eq!(args.durability, Some("Memory"));
        assert_eq!(args.timeout, Some(Duration::from_millis(500)));
        assert!(
            args.durable
                && args.state.is_some()
                && args.validate.is_some()
                && args.migrate.is_some()
        );
        assert!(args.krate.is_some());
    }

    #[test]
    fn each_fault_is_told_once_and_the_other_keys_are_kept() {
        let (args, faults) = parse(quote!(
            idd = "a",
            mailbox = 0,
            timeout = "3 weeks",
            durable = true,
            state = Tally
        ));
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert!(faults[0].contains("did you mean `id`?"));
        assert!(args.state.is_some());
    }

    #[test]
    fn a_missing_comma_is_one_fault() {
        let (args, faults) = parse(quote!(id = "a" durable, mailbox = 1 + 2, state = Tally));
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(args.durable && args.state.is_some());
    }

    #[test]
    fn an_impl_takes_only_the_crate() {
        let mut faults = Faults::default();
        assert!(on_impl(quote!(crate = "m"), &mut faults).is_some());
        assert!(on_impl(quote!(id = "m"), &mut faults).is_none());
        assert_eq!(faults.texts().len(), 1);
        assert!(faults.texts()[0].contains("stands on the struct"));
    }

    #[test]
    fn the_nearest_key_and_level_are_offered_wherever_they_belong() {
        let on_impl = |tokens| {
            let mut faults = Faults::default();
            on_impl(tokens, &mut faults);
            faults.texts().remove(0)
        };
        assert!(on_impl(quote!(crat = "m")).contains("did you mean `crate`?"));
        assert!(
            on_impl(quote!(sate = u8)).contains("did you mean `state`? It stands on the struct")
        );
        assert!(on_impl(quote!(colour = 1)).contains("(known here: `crate`;"));
        let level = |level: &str| parse(quote!(security = #level)).1.remove(0);
        assert!(level("drect").contains("did you mean \"direct\"? (known"));
        assert!(level("seled").contains("did you mean \"sealed\"? It is not built yet"));
        assert!(level("high").contains("write `security = \"direct\"`"));
    }

    #[test]
    fn times_have_a_unit_or_are_seconds() {
        for (given, millis) in [
            (quote!("2m"), 120_000),
            (quote!("1h"), 3_600_000),
            (quote!("5s"), 5_000),
            (quote!(7), 7_000),
        ] {
            let (args, faults) = parse(quote!(timeout = #given));
            assert_eq!(faults, Vec::<String>::new());
            assert_eq!(args.timeout, Some(Duration::from_millis(millis)));
        }
        for given in [
            quote!("5"),
            quote!("s"),
            quote!("-5s"),
            quote!("5 s"),
            quote!(0),
            quote!("0s"),
            quote!(x),
            quote!("99999999999999999h"),
        ] {
            assert_eq!(parse(quote!(timeout = #given)).1.len(), 1, "{given}");
        }
    }
}
