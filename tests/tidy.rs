//! What the style guide asks for and no lint checks: where files stand, how long they are, what must not be in them.
//!
//! Each test names one rule and lists every breach of it, with file and line.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What the top level holds, beside dotfiles and what Git ignores.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "benches",
    "book",
    "examples",
    "mas",
    "mas-macros",
    "mas-runtime",
    "tests",
];

/// The dotfiles at the top level.
const TOP_DOTFILES: &[&str] = &[".cargo", ".ci", ".clippy.toml", ".git", ".gitignore"];

/// Packages whose targets are listed by hand: the folder, and the kind of target in it.
const LISTED: &[(&str, &str)] = &[
    ("examples", "example"),
    ("tests", "test"),
    ("tests/ui", "test"),
    ("benches", "bench"),
];

/// Most lines of a file, its tests not counted.
const FILE_LINES_MAX: usize = 800;

/// Most lines of a function. A `match` that only maps is exempt.
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn the_top_level_holds_what_the_style_guide_says() {
    let ignored = ignored_at_top();
    let mut breaches = Vec::new();
    for entry in fs::read_dir(source::root()).expect("the repository can be read") {
        let name = entry.expect("it can be read").file_name();
        let name = name.to_string_lossy().into_owned();
        let known = TOP.contains(&name.as_str()) || TOP_DOTFILES.contains(&name.as_str());
        if !known && !ignored.contains(&name) {
            breaches.push(format!("{name}: not in the list of the top level"));
        }
    }
    for must in ["Cargo.toml", "Cargo.lock", "README.md"] {
        if !source::root().join(must).is_file() {
            breaches.push(format!("{must}: missing"));
        }
    }
    none(breaches);
}

/// The names at the top level that `.gitignore` names as `/name`.
fn ignored_at_top() -> BTreeSet<String> {
    source::read(Path::new(".gitignore"))
        .lines()
        .filter_map(|line| line.strip_prefix('/'))
        .filter(|name| !name.contains('/'))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn every_target_is_listed_by_hand() {
    let mut breaches = Vec::new();
    for (folder, kind) in LISTED {
        let manifest = Path::new(folder).join("Cargo.toml");
        if !source::root().join(&manifest).is_file() {
            continue;
        }
        let listed = targets(&source::read(&manifest), kind);
        let names: Vec<&str> = listed.iter().map(|target| target.name.as_str()).collect();
        if !names.is_sorted() {
            breaches.push(format!(
                "{}: the targets are not sorted by name",
                manifest.display()
            ));
        }
        let library = targets(&source::read(&manifest), "lib");
        let all = listed.iter().chain(&library);
        let paths: BTreeSet<&str> = all.map(|target| target.path.as_str()).collect();
        for file in candidates(folder) {
            if !paths.contains(file.as_str()) {
                breaches.push(format!(
                    "{folder}/{file}: no [[{kind}]] in {}",
                    manifest.display()
                ));
            }
        }
        for path in paths {
            if !source::root().join(folder).join(path).is_file() {
                breaches.push(format!(
                    "{}: lists {path}, which is not there",
                    manifest.display()
                ));
            }
        }
    }
    none(breaches);
}

struct Target {
    name: String,
    path: String,
}

/// The `[[kind]]` tables of a manifest, or its `[kind]`.
fn targets(manifest: &str, kind: &str) -> Vec<Target> {
    let mut found: Vec<Target> = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = [format!("[[{kind}]]"), format!("[{kind}]")].contains(&line.trim().to_owned());
            if inside {
                found.push(Target {
                    name: String::new(),
                    path: String::new(),
                });
            }
        } else if inside
            && let Some(target) = found.last_mut()
            && let Some((key, value)) = line.split_once('=')
        {
            let value = value.trim().trim_matches('"').to_owned();
            match key.trim() {
                "name" => target.name = value,
                "path" => target.path = value,
                _ => {}
            }
        }
    }
    found
}

/// The files of a folder that are targets: a Rust file in it, or the `main.rs` of a folder in it, unless that is a package.
fn candidates(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(source::root().join(folder)) else {
        return found;
    };
    for entry in entries {
        let path = entry.expect("it can be read").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".rs") {
            found.push(name);
        } else if path.join("main.rs").is_file() && !path.join("Cargo.toml").is_file() {
            found.push(format!("{name}/main.rs"));
        }
    }
    found.sort();
    found
}

/// Cases of the macros' tests are input, not code of ours; generated code says so in its first line.
fn is_ours(path: &Path, text: &str) -> bool {
    let case = path.starts_with("tests/ui") && path != Path::new("tests/ui/main.rs");
    !case && !text.starts_with("// @generated")
}

#[test]
fn no_file_is_too_long() {
    let mut breaches = Vec::new();
    for path in source::rust_files("") {
        let text = source::read(&path);
        let only_tests = path.file_name().is_some_and(|name| name == "tests.rs");
        if only_tests || !is_ours(&path, &text) {
            continue;
        }
        let lines = source::lines_without_tests(&text, source::tokens(&path, &text));
        if lines > FILE_LINES_MAX {
            breaches.push(format!(
                "{}: {lines} lines, at most {FILE_LINES_MAX}",
                path.display()
            ));
        }
    }
    none(breaches);
}

#[test]
fn no_function_is_too_long() {
    let mut breaches = Vec::new();
    for path in source::rust_files("") {
        let text = source::read(&path);
        if !is_ours(&path, &text) {
            continue;
        }
        for function in source::functions(source::tokens(&path, &text)) {
            if function.lines > FUNCTION_LINES_MAX && !function.maps {
                breaches.push(format!(
                    "{}:{}: `{}` has {} lines, at most {FUNCTION_LINES_MAX}",
                    path.display(),
                    function.line,
                    function.name,
                    function.lines
                ));
            }
        }
    }
    none(breaches);
}

/// The layer test watches `mas-runtime`; here is the rest of what users build or read.
#[test]
fn time_and_chance_are_handed_in() {
    let forbidden = [
        "Instant::now",
        "SystemTime::now",
        "RandomState::new",
        "OsRng",
        "rand::",
        "getrandom::",
        "fastrand::",
    ];
    let mut breaches = Vec::new();
    for folder in ["mas/src", "mas-macros/src", "examples"] {
        for path in source::rust_files(folder) {
            let text = source::read(&path);
            for named in source::paths(source::tokens(&path, &text)) {
                let name = named.words.join("::") + "::";
                if let Some(what) = forbidden.iter().find(|what| name.contains(**what)) {
                    breaches.push(format!("{}:{}: names `{what}`", path.display(), named.line));
                }
            }
        }
    }
    none(breaches);
}

#[test]
fn every_chapter_is_in_the_summary_and_its_rust_is_tested() {
    let mut breaches = Vec::new();
    let chapters: Vec<PathBuf> = source::files("book/src")
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .filter(|path| path.file_name().is_some_and(|name| name != "SUMMARY.md"))
        .collect();
    if chapters.is_empty() {
        return;
    }
    let summary = source::read(Path::new("book/src/SUMMARY.md"));
    let tested = source::read(Path::new("book/lib.rs"));
    for path in chapters {
        let name = path
            .strip_prefix("book/src")
            .expect("it was listed below it")
            .display();
        if !summary.contains(&format!("({name})")) {
            breaches.push(format!("{}: not in SUMMARY.md", path.display()));
        }
        if has_rust(&source::read(&path)) && !tested.contains(&format!("\"src/{name}\"")) {
            breaches.push(format!(
                "{}: holds Rust and is not in book/lib.rs",
                path.display()
            ));
        }
    }
    none(breaches);
}

/// Whether a page has a block of Rust.
fn has_rust(page: &str) -> bool {
    page.lines()
        .any(|line| line.trim_start().starts_with("```rust"))
}

/// Longer code is included from the examples, which are compiled: it does not grow in the page.
#[test]
fn no_block_of_the_book_is_longer_than_twenty_lines() {
    let mut breaches = Vec::new();
    for path in source::files("book/src") {
        let mut since = None;
        for (number, line) in source::read(&path).lines().enumerate() {
            let fence = line.trim_start().starts_with("```");
            match since {
                None if fence && line.contains("```rust") => since = Some((number, 0)),
                Some((start, shown)) if fence => {
                    if shown > 20 {
                        breaches.push(format!("{}:{}: {shown} lines", path.display(), start + 1));
                    }
                    since = None;
                }
                Some((start, shown)) if !line.starts_with("# ") && line != "#" => {
                    since = Some((start, shown + 1));
                }
                _ => {}
            }
        }
    }
    none(breaches);
}

/// The pages that people read.
fn pages() -> Vec<PathBuf> {
    let mut pages = source::files("");
    pages.retain(|path| path.extension().is_some_and(|end| end == "md"));
    pages
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut breaches = Vec::new();
    for path in pages() {
        let folder = path.parent().unwrap_or(Path::new(""));
        for (number, line) in source::read(&path).lines().enumerate() {
            for target in links(line) {
                let file = target.split('#').next().unwrap_or_default();
                let elsewhere = target.contains("://") || file.is_empty();
                if !elsewhere && !source::root().join(folder).join(file).exists() {
                    breaches.push(format!("{}:{}: `{target}`", path.display(), number + 1));
                }
            }
        }
    }
    none(breaches);
}

/// The targets of `[text](target)`, and of `{{#include target:anchor}}`, in a line outside code.
fn links(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in line.split("](").skip(1) {
        if let Some((target, _)) = part.split_once(')') {
            found.push(target.to_owned());
        }
    }
    for part in line.split("{{#include ").skip(1) {
        if let Some((target, _)) = part.split_once("}}") {
            let file = target.split(':').next().unwrap_or(target);
            found.push(file.trim().to_owned());
        }
    }
    found
}

#[test]
fn every_anchor_that_a_page_includes_is_there() {
    let mut breaches = Vec::new();
    for path in pages() {
        let folder = path.parent().unwrap_or(Path::new(""));
        for (number, line) in source::read(&path).lines().enumerate() {
            let Some((target, _)) = line
                .split_once("{{#include ")
                .and_then(|(_, rest)| rest.split_once("}}"))
            else {
                continue;
            };
            let Some((file, anchor)) = target.split_once(':') else {
                continue;
            };
            let text = source::read(&normal(&folder.join(file)));
            for word in ["ANCHOR", "ANCHOR_END"] {
                if !text.contains(&format!("// {word}: {anchor}\n")) {
                    let at = format!("{}:{}", path.display(), number + 1);
                    breaches.push(format!("{at}: no {word} `{anchor}` in {file}"));
                }
            }
        }
    }
    none(breaches);
}

/// A path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out
}

/// The errors that users meet: the file, the enum (or, for failure codes, the type with its constants), its heading.
const ERRORS: &[(&str, &str, &str)] = &[
    ("mas-runtime/src/model/failure.rs", "FailureCode", "Failure"),
    ("mas-runtime/src/actor/error.rs", "SendError", "SendError"),
    ("mas-runtime/src/actor/error.rs", "AskError", "AskError"),
    ("mas-runtime/src/actor/error.rs", "SpawnError", "SpawnError"),
    (
        "mas-runtime/src/runtime/builder.rs",
        "StartError",
        "StartError",
    ),
    (
        "mas-runtime/src/store/embedded/open.rs",
        "OpenError",
        "OpenError",
    ),
    (
        "mas-runtime/src/store/seal/error.rs",
        "KeyError",
        "KeyError",
    ),
    (
        "mas-runtime/src/store/embedded/portable/mod.rs",
        "ExportError",
        "ExportError",
    ),
    (
        "mas-runtime/src/store/embedded/portable/mod.rs",
        "ImportError",
        "ImportError",
    ),
    (
        "mas-runtime/src/store/embedded/doctor/cut.rs",
        "CutError",
        "CutError",
    ),
];

#[test]
fn every_error_is_in_the_error_reference() {
    let page = source::read(Path::new("book/src/errors.md"));
    let mut breaches = Vec::new();
    for (file, name, heading) in ERRORS {
        let path = Path::new(file);
        let tokens = source::tokens(path, &source::read(path));
        let words = source::variants(tokens, name);
        assert!(!words.is_empty(), "{file}: no `{name}`");
        let section = section(&page, heading);
        for word in &words {
            if !section.contains(&format!("`{word}` |")) {
                breaches.push(format!("book/src/errors.md: `{name}::{word}` has no row"));
            }
        }
        for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
            let known = words.iter().any(|word| row.contains(&format!("{word}` |")));
            if !known {
                breaches.push(format!("book/src/errors.md: {heading} has no | `{row}"));
            }
        }
    }
    none(breaches);
}

/// The part of a page below a heading of the second level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page
        .find(&format!("\n## {heading}\n"))
        .map_or(page.len(), |at| at + 4);
    let rest = &page[start..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

/// Files of the macros that hold bounds of the runtime. They are built before it, and can't name its own.
const MACROS: &[&str] = &["mas-macros/src/attr/agent.rs", "mas-macros/src/names.rs"];

#[test]
fn the_macros_know_the_bounds_of_the_runtime() {
    let limits = bounds(&source::read(Path::new("mas-runtime/src/model/limits.rs")));
    let mut breaches = Vec::new();
    for file in MACROS {
        let known = bounds(&source::read(Path::new(file)));
        assert!(!known.is_empty(), "{file}: no bounds");
        for (name, value) in known {
            if limits.get(&name) != Some(&value) {
                breaches.push(format!(
                    "{file}: {name} is {value} here, {:?} in limits.rs",
                    limits.get(&name)
                ));
            }
        }
    }
    none(breaches);
}

/// The constants of a file whose names end in `_MAX`, with their values as they are written.
fn bounds(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once("const "));
    let constants = lines.filter_map(|(_, constant)| {
        let (name, rest) = constant.split_once(':')?;
        let (_, value) = rest.trim_end_matches(';').split_once(" = ")?;
        Some((name.to_owned(), value.to_owned()))
    });
    constants
        .filter(|(name, _)| name.ends_with("_MAX"))
        .collect()
}

/// What every ref has besides the methods of `AgentRef`: its own `attach`, and what comes with traits.
const OF_TRAITS: &[&str] = &[
    "attach", "borrow", "clone", "deref", "fmt", "from", "into", "to_owned",
];

#[test]
fn the_macros_reserve_the_methods_of_every_ref() {
    let text = source::read(Path::new("mas-runtime/src/actor/agent_ref.rs"));
    let methods = text.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("pub ")?;
        let rest = rest.strip_prefix("async ").unwrap_or(rest);
        let name = rest.strip_prefix("fn ")?.split(['<', '(']).next()?;
        Some(name.to_owned())
    });
    let mut must: BTreeSet<String> = methods.collect();
    assert!(must.contains("ask"), "agent_ref.rs: no methods found");
    must.extend(OF_TRAITS.iter().map(ToString::to_string));
    let reserved = listed_words(
        &source::read(Path::new("mas-macros/src/names.rs")),
        "RESERVED",
    );
    assert_eq!(reserved, must, "mas-macros/src/names.rs: RESERVED");
}

#[test]
fn every_key_of_agent_is_in_both_tables() {
    let text = source::read(Path::new("mas-macros/src/attr/agent.rs"));
    let keys = listed_words(&text, "ON_STRUCT");
    assert!(keys.contains("id"), "attr/agent.rs: no keys found");
    for (file, row) in [
        ("mas-macros/src/lib.rs", "/// | `"),
        ("book/src/macros.md", "| `"),
    ] {
        let text = source::read(Path::new(file));
        let header = format!("{}key | value | default |", row.trim_end_matches('`'));
        let table = text.split_once(&header).expect("a table of the keys").1;
        let rows = table.lines().skip(1).take_while(|line| line.contains('|'));
        let names = rows.filter_map(|line| line.strip_prefix(row)?.split('`').next());
        let names: BTreeSet<String> = names.map(ToOwned::to_owned).collect();
        assert_eq!(names, keys, "{file}: the table of the keys");
    }
}

/// The words in a file's constant list of them.
fn listed_words(text: &str, name: &str) -> BTreeSet<String> {
    let start = text.find(&format!("{name}: &[&str] = &[")).expect("a list");
    let list = &text[start..];
    let list = &list[..list.find("];").expect("its end")];
    let words = list.split('"').skip(1).step_by(2);
    words.map(ToOwned::to_owned).collect()
}

/// Texts that belong to one machine. They are written in two parts, so that this file does not hold them.
const MACHINE: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Use", "rs/"),
    concat!("C:\\Use", "rs"),
];

#[test]
fn no_file_names_a_path_of_one_machine() {
    let mut breaches = Vec::new();
    for path in source::files("") {
        let bytes = fs::read(source::root().join(&path)).expect("it was just listed");
        let text = String::from_utf8_lossy(&bytes);
        for (number, line) in text.lines().enumerate() {
            if let Some(what) = MACHINE.iter().find(|what| line.contains(**what)) {
                breaches.push(format!("{}:{}: `{what}`", path.display(), number + 1));
            }
        }
    }
    none(breaches);
}

#[test]
fn every_crate_comes_from_crates_io() {
    const INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";
    let mut breaches = Vec::new();
    for (number, line) in source::read(Path::new("Cargo.lock")).lines().enumerate() {
        if let Some(from) = line.strip_prefix("source = ")
            && from != format!("\"{INDEX}\"")
        {
            breaches.push(format!("Cargo.lock:{}: {from}", number + 1));
        }
    }
    for path in source::files("") {
        if path.extension().is_none_or(|end| end != "toml") {
            continue;
        }
        for (number, line) in source::read(&path).lines().enumerate() {
            let line = line.trim();
            let key = line.split('=').next().unwrap_or_default().trim();
            let table = line.starts_with("[source.") || line.starts_with("[registr");
            if table || ["replace-with", "registry", "registry-index"].contains(&key) {
                breaches.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    none(breaches);
}

#[test]
fn every_published_crate_carries_both_licences() {
    let mut breaches = Vec::new();
    let mut seen: Vec<(String, String)> = Vec::new();
    for krate in ["mas", "mas-macros", "mas-runtime"] {
        let manifest = source::read(&Path::new(krate).join("Cargo.toml"));
        assert!(
            !manifest.contains("publish = false"),
            "{krate} is published"
        );
        for (file, begin, end) in LICENCES {
            let path = Path::new(krate).join(file);
            let Ok(text) = fs::read_to_string(source::root().join(&path)) else {
                breaches.push(format!("{}: missing", path.display()));
                continue;
            };
            if !text.trim_start().starts_with(begin) || !text.contains(end) {
                breaches.push(format!("{}: not the whole text", path.display()));
            }
            match seen.iter().find(|(name, _)| name == file) {
                Some((_, other)) if *other != text => {
                    breaches.push(format!("{}: differs between crates", path.display()));
                }
                _ => seen.push(((*file).to_owned(), text)),
            }
        }
    }
    none(breaches);
}

/// The files of the licences, how each begins, and what only the whole text has.
const LICENCES: &[(&str, &str, &str)] = &[
    (
        "LICENSE-APACHE",
        "Apache License",
        "END OF TERMS AND CONDITIONS",
    ),
    (
        "LICENSE-MIT",
        "MIT License",
        "OUT OF OR IN CONNECTION WITH THE SOFTWARE",
    ),
];

/// Words that promise less than the code should hold. They are written in two parts, so that this file does not hold them.
const EXCUSES: &[&str] = &[
    concat!("simpl", "ified"),
    concat!("mo", "ck"),
    concat!("place", "holder"),
    concat!("for ", "now"),
];

#[test]
fn no_name_and_no_page_makes_an_excuse() {
    let mut breaches = Vec::new();
    for path in source::files("") {
        let end = path.extension().and_then(|end| end.to_str());
        if !matches!(end, Some("rs" | "md" | "toml")) {
            continue;
        }
        for (number, line) in source::read(&path).lines().enumerate() {
            let line = line.to_lowercase();
            if let Some(what) = EXCUSES.iter().find(|what| has_word(&line, what)) {
                breaches.push(format!("{}:{}: `{what}`", path.display(), number + 1));
            }
        }
    }
    none(breaches);
}

/// Whether a line has this word, or one that begins with it, as a name does that is made of it.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let phrase = word.contains(' ');
        let longer = before.is_some_and(char::is_alphabetic)
            || phrase && after.is_some_and(char::is_alphabetic);
        !longer
    })
}

#[track_caller]
fn none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

mod finds {
    use super::*;

    #[test]
    fn a_long_function_and_spares_a_table() {
        let long = format!("fn f() {{\n{}}}", "g();\n".repeat(80));
        let found = source::functions(long.parse().expect("Rust"));
        assert_eq!((found[0].lines, found[0].maps), (82, false));
        let arms = "A => 1,\n".repeat(80);
        let table = format!("fn f(x: X) -> u8 {{\nmatch x {{\n{arms}}}\n}}");
        assert!(source::functions(table.parse().expect("Rust"))[0].maps);
        let busy = format!("fn f(x: X) -> u8 {{\nmatch x {{\n{arms}B => {{ g(); 2 }}\n}}\n}}");
        assert!(!source::functions(busy.parse().expect("Rust"))[0].maps);
    }

    #[test]
    fn the_lines_of_a_file_without_its_tests() {
        let text = "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n";
        let lines = source::lines_without_tests(text, text.parse().expect("Rust"));
        assert_eq!(lines, 2);
    }

    #[test]
    fn targets_of_one_kind() {
        let manifest = "[package]\nname = \"p\"\n[[test]]\nname = \"a\"\npath = \"a.rs\"\n[[bench]]\nname = \"b\"\n";
        let found = targets(manifest, "test");
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].name.as_str(), found[0].path.as_str()),
            ("a", "a.rs")
        );
    }

    #[test]
    fn excuses_as_words_only() {
        let word = EXCUSES[1];
        assert!(has_word(&format!("a {word}ed clock"), word));
        assert!(has_word(&format!("make_{word}_clock"), word));
        assert!(!has_word(&format!("ham{word}"), word));
        assert!(!has_word(&format!("{}here", EXCUSES[3]), EXCUSES[3]));
    }

    #[test]
    fn links_and_includes() {
        let line = "See [a](b.md#c) and {{#include ../x.rs:part}}.";
        assert_eq!(links(line), ["b.md#c", "../x.rs"]);
    }
}
