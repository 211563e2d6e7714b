//! Every path and name that the output uses or refuses, in one place.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::{Ident, Path};

/// The longest agent id and the longest message type, in bytes: the runtime's limit.
pub(crate) const NAME_BYTES_MAX: usize = 128;

/// What a handler may not be called: typed calls are methods of the agent's ref, and these are there already, from
/// `AgentRef`, from the ref itself, or from traits that every program has in scope.
pub(crate) const RESERVED: &[&str] = &[
    "ask", "attach", "borrow", "clone", "deref", "fmt", "from", "id", "into", "stop", "stream",
    "tell", "to_owned", "untyped",
];

/// Where the crate `mas` is, as the output names it.
pub(crate) struct Names {
    private: TokenStream,
}

impl Names {
    /// Names under `::mas`, or under the path that the user gave.
    pub(crate) fn new(krate: Option<&Path>) -> Self {
        let private = match krate {
            Some(path) => quote!(#path::private),
            None => quote!(::mas::private),
        };
        Self { private }
    }
}

impl Names {
    /// The same path, shown at `span`: an error in what follows it is shown there as a whole.
    pub(crate) fn at(&self, span: Span) -> TokenStream {
        self.private
            .clone()
            .into_iter()
            .map(|mut token| {
                token.set_span(span);
                token
            })
            .collect()
    }
}

impl ToTokens for Names {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.private.to_tokens(tokens);
    }
}

/// The span of generated code, shown at the user's token.
pub(crate) fn shown_at(span: Span) -> Span {
    Span::call_site().located_at(span)
}

/// The name of an agent's ref: `Worker` has `WorkerRef`.
pub(crate) fn ref_of(agent: &Ident) -> Ident {
    format_ident!("{}Ref", agent.unraw(), span = shown_at(agent.span()))
}

/// The module that holds the stand-in for a missing ref. The line tells two blocks of one agent apart.
pub(crate) fn stand_in_of(agent: &Ident) -> Ident {
    let line = if proc_macro::is_available() {
        agent.span().unwrap().line()
    } else {
        0
    };
    format_ident!("__mas_{}_{}", agent.unraw(), line, span = Span::call_site())
}

/// The default agent id: a type's name in kebab-case. A word starts at a capital after a small letter or digit, and
/// at the last of several capitals before a small letter; digits belong to the word before them.
pub(crate) fn kebab(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut id = String::with_capacity(name.len() + 4);
    for (index, &char) in chars.iter().enumerate() {
        if char == '_' {
            if !id.is_empty() && !id.ends_with('-') {
                id.push('-');
            }
            continue;
        }
        let before = index.checked_sub(1).map(|index| chars[index]);
        let after_word =
            before.is_some_and(|before| before.is_lowercase() || before.is_ascii_digit());
        let last_capital = before.is_some_and(char::is_uppercase)
            && chars.get(index + 1).is_some_and(|c| c.is_lowercase());
        if char.is_uppercase() && (after_word || last_capital) && !id.ends_with('-') {
            id.push('-');
        }
        id.extend(char.to_lowercase());
    }
    id.trim_end_matches('-').to_owned()
}

/// What is wrong with an agent id or a message type, if anything; `what` says which it is.
pub(crate) fn name_fault(what: &str, name: &str) -> Option<String> {
    if name.is_empty() {
        return Some(format!(
            "{what} is empty: it needs 1 to {NAME_BYTES_MAX} of `A-Z a-z 0-9 . _ : -`"
        ));
    }
    if let Some(bad) = name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || ".-_:".contains(*c)))
    {
        return Some(format!(
            "{what} `{}` has a `{}`: only `A-Z a-z 0-9 . _ : -` are allowed",
            name.escape_debug(),
            bad.escape_debug()
        ));
    }
    if name.len() > NAME_BYTES_MAX {
        return Some(format!(
            "{what} is {} bytes long: at most {NAME_BYTES_MAX} are allowed",
            name.len()
        ));
    }
    None
}

/// The known word that `word` was probably meant to be.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_lowercase().replace('-', "_");
    let allowed = if lower.chars().count() <= 4 { 1 } else { 2 };
    known
        .iter()
        .map(|&known| (distance(&lower, known), known))
        .filter(|(distance, known)| {
            *distance <= allowed || (lower.len() >= 4 && known.starts_with(&lower))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// How many letters must be added, dropped, changed or swapped with their neighbour to turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    rows[0] = (0..=to.len()).collect();
    for i in 1..=from.len() {
        rows[i][0] = i;
        for j in 1..=to.len() {
            let change = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[from.len()][to.len()]
}

/// `a`, `b`, `c`: a list of words for a message.
pub(crate) fn list(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kebab_case_splits_words_and_keeps_acronyms_and_digits_together() {
        for (name, id) in [
            ("Worker", "worker"),
            ("TaskRunner", "task-runner"),
            ("HTTPServer2", "http-server2"),
            ("HTTPServer", "http-server"),
            ("Server2Go", "server2-go"),
            ("ParseXML", "parse-xml"),
            ("A", "a"),
            ("ABTest", "ab-test"),
            ("My_Worker", "my-worker"),
            ("_Hidden_", "hidden"),
            ("worker", "worker"),
        ] {
            assert_eq!(kebab(name), id, "{name}");
        }
    }

    #[test]
    fn the_nearest_known_word_is_offered() {
        let known = ["capabilities", "state", "timeout", "mailbox", "id"];
        assert_eq!(nearest("capabilites", &known), Some("capabilities"));
        assert_eq!(nearest("tiemout", &known), Some("timeout"));
        assert_eq!(nearest("State", &known), Some("state"));
        assert_eq!(nearest("capa", &known), Some("capabilities"));
        assert_eq!(nearest("colour", &known), None);
    }

    #[test]
    fn a_name_fault_tells_the_character_and_the_length() {
        assert_eq!(name_fault("the id", "worker:1.a_b-c"), None);
        assert_eq!(name_fault("the id", &"a".repeat(128)), None);
        assert!(
            name_fault("the id", &"a".repeat(129)).is_some_and(|text| text.contains("129 bytes"))
        );
        assert!(name_fault("the id", "a b").is_some_and(|text| text.contains("has a ` `")));
        assert!(name_fault("the id", "").is_some_and(|text| text.contains("empty")));
    }

    #[test]
    fn reserved_names_are_sorted_so_that_a_reader_finds_them() {
        assert!(RESERVED.is_sorted());
    }
}
