//! Who may name whom inside `mas-runtime`, and which crates and calls stay in their place.
//!
//! Every path in the source is read (`use` lines, paths in code, paths in the arguments of macros), brought to the form
//! `module::name`, and held against the tables below. Comments and strings are no paths. The tables know the modules that
//! are to come, too.

mod source;

use std::path::Path;

use source::Named;

/// Each module, and the modules that it may name. Itself it may always name.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("observe", &["model"]),
    ("config", &["model"]),
    ("mfp", &["model"]),
    ("mxp", &["model"]),
    ("macp", &["model"]),
    ("gateway", &["model", "observe", "config"]),
    ("store", &["model", "observe"]),
    ("actor", BELOW_ACTOR),
    ("runtime", BELOW_RUNTIME),
    ("remote", BELOW_REMOTE),
    ("serve", BELOW_SERVE),
    ("testkit", BELOW_TESTKIT),
];

const BELOW_ACTOR: &[&str] = &[
    "model", "observe", "config", "mfp", "mxp", "macp", "gateway", "store",
];
const BELOW_RUNTIME: &[&str] = &[
    "model", "observe", "config", "mfp", "mxp", "macp", "gateway", "store", "actor",
];
const BELOW_REMOTE: &[&str] = &[
    "model", "observe", "config", "mfp", "mxp", "macp", "gateway", "store", "actor", "runtime",
];
const BELOW_SERVE: &[&str] = &[
    "model", "observe", "config", "mfp", "mxp", "macp", "gateway", "store", "actor", "runtime",
    "remote",
];
const BELOW_TESTKIT: &[&str] = &[
    "model", "observe", "config", "mfp", "mxp", "macp", "gateway", "store", "actor", "runtime",
    "remote", "serve",
];

/// Where tokio may be named: drivers, what drives them, and the tests that run every engine.
const TOKIO: &[&str] = &[
    "mxp/driver",
    "store/breaker",
    "store/embedded",
    "store/memory",
    "store/redis",
    "store/sled",
    "store/tests",
    "actor",
    "runtime",
    "remote",
    "serve",
    "testkit",
];

/// Where the parts of std that touch the world may be named. The pure cores are not among them.
const WORLD: &[&str] = &[
    "mxp/driver",
    "config",
    "store/disk/real",
    "store/embedded",
    "store/redis",
    "store/seal/key_file",
    "store/sled",
    "actor",
    "runtime",
    "remote",
    "serve",
    "testkit",
];

/// Crates and calls, and the only places that may name them. A path is meant when it begins with these words, or,
/// behind `..`, when it ends with them.
const PLACES: &[(&str, &[&str])] = &[
    ("tokio", TOKIO),
    ("tokio_util", TOKIO),
    ("ractor", &["actor/shell"]),
    ("sled", &["store/sled"]),
    ("redis", &["store/redis"]),
    ("snow", &["mxp/handshake"]),
    ("chacha20poly1305", &["store/seal/sealer"]),
    ("rustix", &["store/seal/key_file"]),
    ("tonic", &["serve"]),
    ("prost", &["macp/pb", "serve"]),
    ("prometheus_client", &["observe"]),
    // Time.
    ("std::time::Instant", &["model/clock"]),
    ("std::time::SystemTime", &["model/clock"]),
    ("..SystemTime::now", &["model/clock"]),
    // tokio's own clock, which tests can stop.
    ("..Instant::now", &["model/clock", "testkit"]),
    ("..Uuid::now_v7", &[]),
    // Chance.
    ("..RandomState", &["model/entropy"]),
    ("..RandomState::new", &["model/entropy"]),
    ("..OsRng", &["model/entropy"]),
    ("..Uuid::new_v4", &[]),
    ("rand", &["model/entropy"]),
    ("rand_core", &["model/entropy"]),
    ("getrandom", &["model/entropy"]),
    ("fastrand", &["model/entropy"]),
    // The world.
    ("std::fs", WORLD),
    ("std::process", WORLD),
    ("std::thread", WORLD),
    ("..TcpListener::bind", WORLD),
    ("..TcpStream::connect", WORLD),
    ("..UdpSocket::bind", WORLD),
];

/// Where a path stands: its module, as `["store", "sled", "tree"]`, and whether that has a module of some name below it.
struct Place<'a> {
    module: Vec<String>,
    has_child: &'a dyn Fn(&[String], &str) -> bool,
}

/// What is wrong with a path, if anything.
fn breach(named: &Named, place: &Place<'_>) -> Option<String> {
    let mut here = place.module.clone();
    here.extend(named.inside.iter().cloned());
    let first = named.words.first()?;
    let rest = &named.words[1..];
    let absolute = match first.as_str() {
        "crate" => rest.to_vec(),
        "self" => [&here[..], rest].concat(),
        "super" => above(&here, rest)?,
        // A module of our own may be called like the crate that it is about.
        name if (place.has_child)(&here, name) => [&here[..], &named.words].concat(),
        _ => return foreign(&named.words, &here),
    };
    inside(&absolute, &here)
}

/// The path that `super::rest` means in a module.
fn above(here: &[String], rest: &[String]) -> Option<Vec<String>> {
    let more = rest.iter().take_while(|word| *word == "super").count();
    let kept = here.len().checked_sub(more + 1)?;
    Some([&here[..kept], &rest[more..]].concat())
}

/// A path inside the crate: its first word is a module that this one may name.
fn inside(absolute: &[String], here: &[String]) -> Option<String> {
    let (to, from) = (absolute.first()?, here.first()?);
    if to == from || to == "*" && here.len() == 1 {
        return None;
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(module, _)| module == from) else {
        return Some(format!("module `{from}` stands in no layer"));
    };
    if !LAYERS.iter().any(|(module, _)| module == to) {
        return Some(format!("`{to}` is no module of the layers"));
    }
    if allowed.contains(&to.as_str()) {
        return None;
    }
    let may = if allowed.is_empty() {
        "nothing".to_owned()
    } else {
        allowed.join(", ")
    };
    Some(format!("`{from}` names `{to}`: it may name {may}"))
}

/// A path to another crate: it stands where it may.
fn foreign(words: &[String], here: &[String]) -> Option<String> {
    let at = here.join("/");
    PLACES
        .iter()
        .find(|(what, places)| {
            means(what, words) && !places.iter().any(|place| is_below(&at, place))
        })
        .map(|(what, places)| {
            let what = what.trim_start_matches("..");
            let places = if places.is_empty() {
                "nowhere".to_owned()
            } else {
                format!("only in {}", places.join(", "))
            };
            format!("`{what}` in `{at}`: it may stand {places}")
        })
}

fn means(what: &str, words: &[String]) -> bool {
    match what.strip_prefix("..") {
        Some(end) => {
            let end: Vec<&str> = end.split("::").collect();
            words.len() >= end.len() && words[words.len() - end.len()..] == end[..]
        }
        None => {
            let start: Vec<&str> = what.split("::").collect();
            words.len() >= start.len() && words[..start.len()] == start[..]
        }
    }
}

fn is_below(at: &str, place: &str) -> bool {
    at.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The module of a file: `store/sled/mod.rs` is `["store", "sled"]`, `lib.rs` is the root.
fn module_of(file: &Path) -> Vec<String> {
    let mut words: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if words
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        words.pop();
    }
    words
}

const SRC: &str = "mas-runtime/src";

fn has_file(module: &[String], name: &str) -> bool {
    let folder = source::root().join(SRC).join(module.join("/")).join(name);
    folder.is_dir() || folder.with_extension("rs").is_file()
}

#[test]
fn every_module_names_only_what_stands_below_it() {
    let mut breaches = Vec::new();
    for file in source::rust_files(SRC) {
        let own = file.strip_prefix(SRC).expect("it was listed below it");
        let place = Place {
            module: module_of(own),
            has_child: &has_file,
        };
        let tokens = source::tokens(&file, &source::read(&file));
        for named in source::paths(tokens) {
            if let Some(what) = breach(&named, &place) {
                breaches.push(format!("{}:{}: {what}", file.display(), named.line));
            }
        }
    }
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn every_module_stands_in_a_layer() {
    for file in source::rust_files(SRC) {
        let own = file.strip_prefix(SRC).expect("it was listed below it");
        if let Some(first) = module_of(own).first() {
            let known = LAYERS.iter().any(|(module, _)| module == first);
            assert!(known, "{}: `{first}` stands in no layer", file.display());
        }
    }
}

/// Layers point down: no module may name one that comes later in the table, so there is no circle.
#[test]
fn the_table_of_layers_has_no_circle() {
    for (place, (module, allowed)) in LAYERS.iter().enumerate() {
        for name in *allowed {
            let below = LAYERS[..place].iter().any(|(other, _)| other == name);
            assert!(
                below,
                "`{module}` may name `{name}`, which does not stand below it"
            );
        }
    }
}

mod finds {
    use super::*;

    /// The breaches in `text`, as if it stood in the file `at`.
    fn found(at: &str, text: &str) -> Vec<String> {
        let place = Place {
            module: module_of(Path::new(at)),
            has_child: &|module, name| module == ["store"] && name == "sled",
        };
        source::paths(text.parse().expect("the case is Rust"))
            .iter()
            .filter_map(|named| breach(named, &place))
            .collect()
    }

    #[test]
    fn a_name_from_above() {
        let upward = found("actor/agent.rs", "use crate::runtime::Builder;");
        assert_eq!(upward.len(), 1, "{upward:?}");
        assert!(upward[0].starts_with("`actor` names `runtime`"));
        assert!(found("runtime/mod.rs", "use crate::actor::Agent;").is_empty());
    }

    #[test]
    fn a_name_from_beside() {
        assert_eq!(found("mfp/frame.rs", "use crate::mxp::Frame;").len(), 1);
        assert_eq!(
            found("store/traits.rs", "use crate::gateway::Audit;").len(),
            1
        );
        assert_eq!(
            found("serve/http.rs", "use crate::testkit::Probe;").len(),
            1
        );
        assert!(found("testkit/kit.rs", "use crate::serve::Door;").is_empty());
    }

    #[test]
    fn a_branch_of_a_tree() {
        let text = "use crate::{model::{Envelope, Failure}, runtime::{self, Builder as B}};";
        assert_eq!(found("actor/mod.rs", text).len(), 2);
    }

    #[test]
    fn a_path_in_code_and_in_a_macro() {
        let text = "fn f() { tokio::select! { _ = g() => { crate::runtime::stop() } } }";
        assert_eq!(found("actor/pump.rs", text).len(), 1);
        assert_eq!(
            found(
                "model/id.rs",
                "macro_rules! m { () => { $crate::store::X } }"
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_path_by_super() {
        assert!(found("actor/agent.rs", "use super::context::Context;").is_empty());
        assert_eq!(
            found("actor/agent.rs", "use super::super::runtime::Builder;").len(),
            1
        );
        let text = "mod tests { use super::super::super::runtime::Builder; }";
        assert_eq!(found("actor/agent.rs", text).len(), 1);
    }

    #[test]
    fn a_module_that_nobody_knows() {
        assert_eq!(found("actor/agent.rs", "use crate::helpers::f;").len(), 1);
        assert_eq!(found("helpers.rs", "use crate::model::AgentId;").len(), 1);
    }

    #[test]
    fn a_crate_out_of_its_place() {
        assert_eq!(found("mfp/frame.rs", "use tokio::sync::mpsc;").len(), 1);
        assert_eq!(
            found("model/id.rs", "#[tokio::test] async fn f() {}").len(),
            1
        );
        assert_eq!(
            found("actor/pump.rs", "fn f(x: ractor::ActorId) {}").len(),
            1
        );
        assert_eq!(found("runtime/mod.rs", "use ::sled::Db;").len(), 1);
        assert!(found("store/sled/tree.rs", "use sled::Db;").is_empty());
        assert!(
            found("store/mod.rs", "pub use sled::EmbeddedEngine;").is_empty(),
            "our own module"
        );
    }

    #[test]
    fn time_and_chance_out_of_their_place() {
        assert_eq!(
            found("actor/pump.rs", "fn f() { Instant::now(); }").len(),
            1
        );
        assert_eq!(
            found("runtime/mod.rs", "use std::time::{Duration, SystemTime};").len(),
            1
        );
        assert_eq!(found("mxp/keys.rs", "fn f() { Uuid::new_v4(); }").len(), 1);
        assert_eq!(found("actor/backoff.rs", "use rand::Rng;").len(), 1);
        assert_eq!(
            found(
                "store/sled/tree.rs",
                "use std::collections::hash_map::RandomState;"
            )
            .len(),
            1
        );
        assert!(found("testkit/kit.rs", "fn f() { tokio::time::Instant::now(); }").is_empty());
        assert_eq!(found("testkit/kit.rs", "use std::time::Instant;").len(), 1);
    }

    #[test]
    fn the_world_in_a_pure_core() {
        assert_eq!(
            found("mxp/connection.rs", "fn f() { std::thread::yield_now(); }").len(),
            1
        );
        assert_eq!(found("gateway/audit.rs", "use std::fs::File;").len(), 1);
        assert!(
            found(
                "mxp/driver.rs",
                "use tokio::net::UdpSocket; use std::thread;"
            )
            .is_empty()
        );
    }

    #[test]
    fn nothing_in_comments_and_strings() {
        let text = "/// See [`crate::runtime`].\nfn f() { g(\"crate::runtime::Builder\"); } // crate::serve::x\n";
        assert!(found("model/id.rs", text).is_empty());
    }
}
