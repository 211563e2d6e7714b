//! The repository as `layers` and `tidy` read it: its files, and Rust source as tokens with their lines.
#![allow(
    dead_code,
    reason = "two tests share this module, and each uses a part of it"
)]

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

/// The repository's top folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("the tests stand in the repository")
        .to_owned()
}

/// Folders that are not ours to read: what Git keeps, and what builds leave.
const SKIPPED: &[&str] = &[".git", "target", "book/book", "data"];

/// Every file below a folder of the repository, relative to the top, in order.
pub fn files(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&root(), Path::new(below), &mut found);
    found.sort();
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return;
    };
    for entry in entries {
        let entry = entry.expect("a folder of the repository can be read");
        let path = folder.join(entry.file_name());
        let path = path.strip_prefix(".").unwrap_or(&path).to_owned();
        if SKIPPED.iter().any(|skipped| path == Path::new(skipped)) {
            continue;
        }
        if entry.file_type().expect("it was just listed").is_dir() {
            collect(root, &path, found);
        } else {
            found.push(path);
        }
    }
}

/// The Rust files below a folder.
pub fn rust_files(below: &str) -> Vec<PathBuf> {
    let mut found = files(below);
    found.retain(|path| path.extension().is_some_and(|end| end == "rs"));
    found
}

/// The text of a file, relative to the top.
pub fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A file's tokens.
pub fn tokens(path: &Path, text: &str) -> TokenStream {
    text.parse()
        .unwrap_or_else(|e| panic!("{}: not Rust: {e}", path.display()))
}

/// A path that source names, such as `crate::model::Envelope`, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub words: Vec<String>,
    /// The inline modules that it stands in, the outermost first.
    pub inside: Vec<String>,
    pub line: usize,
}

/// Words that may stand before a path that begins with `::`, and are no part of it.
const KEYWORDS: &[&str] = &[
    "as", "async", "break", "const", "dyn", "else", "for", "if", "impl", "in", "let", "match",
    "move", "mut", "pub", "ref", "return", "use", "where", "while",
];

/// Every path of two words or more, and every word after `use`. Trees of `use` come out flat; `$crate` is `crate`.
pub fn paths(tokens: TokenStream) -> Vec<Named> {
    let mut found = Vec::new();
    scan(tokens, &[], &mut found);
    found
}

fn scan(tokens: TokenStream, inside: &[String], found: &mut Vec<Named>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < trees.len() {
        at = match &trees[at] {
            TokenTree::Ident(word) if word == "mod" => module(&trees, at, inside, found),
            TokenTree::Ident(word) if KEYWORDS.contains(&text(word).as_str()) => at + 1,
            TokenTree::Ident(word) => {
                let used = at > 0 && is_word(&trees[at - 1], "use");
                let mut words = vec![text(word)];
                let line = word.span().start().line;
                let end = follow(&trees, at + 1, &mut words, inside, found);
                if !end.in_tree && (words.len() > 1 || used) {
                    found.push(named(words, inside, line));
                }
                end.next
            }
            TokenTree::Group(group) => {
                scan(group.stream(), inside, found);
                at + 1
            }
            _ => at + 1,
        };
    }
}

/// Reads `mod name { .. }`, or steps over `mod name;`.
fn module(trees: &[TokenTree], at: usize, inside: &[String], found: &mut Vec<Named>) -> usize {
    if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
        (trees.get(at + 1), trees.get(at + 2))
    {
        let mut inner = inside.to_vec();
        inner.push(text(name));
        scan(body.stream(), &inner, found);
        return at + 3;
    }
    at + 1
}

/// Where a path ends, and whether it is the trunk of a `use` tree, whose branches are paths of their own.
struct End {
    next: usize,
    in_tree: bool,
}

/// Reads on after the first word of a path.
fn follow(
    trees: &[TokenTree],
    mut at: usize,
    words: &mut Vec<String>,
    inside: &[String],
    found: &mut Vec<Named>,
) -> End {
    while is_double_colon(trees, at) {
        match trees.get(at + 2) {
            Some(TokenTree::Ident(word)) => {
                words.push(text(word));
                at += 3;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                branches(group, words, inside, found);
                return End {
                    next: at + 3,
                    in_tree: true,
                };
            }
            _ => break,
        }
    }
    End {
        next: at,
        in_tree: false,
    }
}

/// The branches of a `use` tree: each is the trunk with something behind it.
fn branches(group: &Group, trunk: &[String], inside: &[String], found: &mut Vec<Named>) {
    let trees: Vec<TokenTree> = group.stream().into_iter().collect();
    let mut at = 0;
    while at < trees.len() {
        let TokenTree::Ident(word) = &trees[at] else {
            at += 1;
            continue;
        };
        // The new name in `thing as name` is no branch.
        if at > 0 && is_word(&trees[at - 1], "as") || word == "as" {
            at += 1;
            continue;
        }
        let mut words = trunk.to_vec();
        words.push(text(word));
        let line = word.span().start().line;
        let end = follow(&trees, at + 1, &mut words, inside, found);
        if !end.in_tree {
            found.push(named(words, inside, line));
        }
        at = end.next;
    }
}

fn named(words: Vec<String>, inside: &[String], line: usize) -> Named {
    Named {
        words,
        inside: inside.to_vec(),
        line,
    }
}

fn text(word: &Ident) -> String {
    let text = word.to_string();
    text.strip_prefix("r#").unwrap_or(&text).to_owned()
}

fn is_word(tree: &TokenTree, word: &str) -> bool {
    matches!(tree, TokenTree::Ident(own) if own == word)
}

fn is_double_colon(trees: &[TokenTree], at: usize) -> bool {
    let colon = |tree: Option<&TokenTree>| matches!(tree, Some(TokenTree::Punct(own)) if own.as_char() == ':');
    colon(trees.get(at)) && colon(trees.get(at + 1))
}

/// A function, and how long its body is.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    /// From the line of the opening brace to that of the closing one.
    pub lines: usize,
    /// Its body is one `match` whose arms only map: no arm holds a statement.
    pub maps: bool,
}

/// Every function that has a body.
pub fn functions(tokens: TokenStream) -> Vec<Function> {
    let mut found = Vec::new();
    scan_functions(tokens, &mut found);
    found
}

fn scan_functions(tokens: TokenStream, found: &mut Vec<Function>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, tree) in trees.iter().enumerate() {
        match tree {
            TokenTree::Ident(word) if word == "fn" => {
                if let Some(TokenTree::Ident(name)) = trees.get(at + 1)
                    && let Some(body) = body(&trees[at + 2..])
                {
                    found.push(Function {
                        name: text(name),
                        line: name.span().start().line,
                        lines: height(body),
                        maps: only_maps(body),
                    });
                }
            }
            TokenTree::Group(group) => scan_functions(group.stream(), found),
            _ => {}
        }
    }
}

/// The body of a function, after its name; none where a `;` comes first.
fn body(trees: &[TokenTree]) -> Option<&Group> {
    for tree in trees {
        match tree {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return Some(group),
            TokenTree::Punct(punct) if punct.as_char() == ';' => return None,
            _ => {}
        }
    }
    None
}

fn height(group: &Group) -> usize {
    group.span_close().end().line - group.span_open().start().line + 1
}

fn only_maps(body: &Group) -> bool {
    let trees: Vec<TokenTree> = body.stream().into_iter().collect();
    let Some(TokenTree::Group(arms)) = trees.last() else {
        return false;
    };
    trees.first().is_some_and(|first| is_word(first, "match"))
        && arms.delimiter() == Delimiter::Brace
        && !has_statement(arms.stream())
}

fn has_statement(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|tree| match tree {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => has_statement(group.stream()),
        _ => false,
    })
}

/// The variants of an enum, or the public constants in the `impl` block of a type.
pub fn variants(tokens: TokenStream, of: &str) -> Vec<String> {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut found = Vec::new();
    for three in trees.windows(3) {
        let [kind, name, TokenTree::Group(body)] = three else {
            continue;
        };
        if !is_word(name, of) {
            continue;
        }
        if is_word(kind, "enum") {
            found.extend(variants_in(body));
        } else if is_word(kind, "impl") {
            found.extend(constants_in(body));
        }
    }
    found
}

/// The first word of each variant, its attributes passed over.
fn variants_in(body: &Group) -> Vec<String> {
    let mut found = Vec::new();
    let mut begins = true;
    for tree in body.stream() {
        match tree {
            TokenTree::Ident(word) if begins => {
                found.push(text(&word));
                begins = false;
            }
            TokenTree::Punct(punct) if punct.as_char() == ',' => begins = true,
            _ => {}
        }
    }
    found
}

fn constants_in(body: &Group) -> Vec<String> {
    let trees: Vec<TokenTree> = body.stream().into_iter().collect();
    let constants = trees.windows(3).filter_map(|three| match three {
        [visible, kind, TokenTree::Ident(name)]
            if is_word(visible, "pub") && is_word(kind, "const") =>
        {
            Some(text(name))
        }
        _ => None,
    });
    constants.filter(|name| name != "fn").collect()
}

/// The lines of a file that are no part of a `#[cfg(test)]` item.
pub fn lines_without_tests(text: &str, tokens: TokenStream) -> usize {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut lines = text.lines().count();
    let mut test_since = None;
    for (at, tree) in trees.iter().enumerate() {
        let TokenTree::Group(group) = tree else {
            continue;
        };
        let after_hash =
            at > 0 && matches!(&trees[at - 1], TokenTree::Punct(own) if own.as_char() == '#');
        if after_hash && is_cfg_test(group) {
            test_since.get_or_insert(group.span_open().start().line);
        } else if group.delimiter() == Delimiter::Brace
            && let Some(since) = test_since.take()
        {
            lines -= group.span_close().end().line - since + 1;
        }
    }
    lines
}

/// Whether an attribute is a `#[cfg(..)]` that asks for `test`.
fn is_cfg_test(attribute: &Group) -> bool {
    let mut trees = attribute.stream().into_iter();
    let cfg = trees.next().is_some_and(|first| is_word(&first, "cfg"));
    let Some(TokenTree::Group(condition)) = trees.next() else {
        return false;
    };
    cfg && asks_for_test(condition.stream())
}

fn asks_for_test(condition: TokenStream) -> bool {
    condition.into_iter().any(|tree| match tree {
        TokenTree::Group(group) => asks_for_test(group.stream()),
        other => is_word(&other, "test"),
    })
}
