//! The embedded engine beside other stores, in one run: each figure is measured in turn, round by round, and the median
//! is shown.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml --bin mas-stores [-- FIGURE [WHO [ROUNDS]]]`
//!
//! | file | holds |
//! |---|---|
//! | `store` | what a figure asks of a store |
//! | `figures` | what is measured |
//! | `process` | each measurement in a process of its own |
//! | `grouped` | group commit for those that have none |
//! | `log`, `sled_store`, `redb_store`, `fjall_store`, `mas_store` | who is measured |

mod figures;
mod fjall_store;
mod grouped;
mod log;
mod mas_store;
mod process;
mod redb_store;
mod sled_store;
mod store;

use std::path::{Path, PathBuf};

use fjall_store::Fjall;
use grouped::{Alone, Grouped};
use log::Log;
use mas_store::Mas;
use process::Row;
use redb_store::Redb;
use sled_store::Sled;

/// How often a short figure is measured; one that loads much is measured once.
const ROUNDS: usize = 3;

/// Who is measured. The first two keep nothing that can be read.
const WHO: &[&str] = &["fdatasync", "log", "sled", "redb", "fjall", "mas"];

/// Those of them that can be read.
const STORES: &[&str] = &["sled", "redb", "fjall", "mas"];

/// A table: its parts run one after the other on one directory, each in a process of its own.
struct Figure {
    name: &'static str,
    parts: &'static [&'static str],
    who: &'static [&'static str],
    rounds: usize,
}

const fn short(name: &'static str, parts: &'static [&'static str]) -> Figure {
    Figure {
        name,
        parts,
        who: WHO,
        rounds: ROUNDS,
    }
}

const fn long(name: &'static str, parts: &'static [&'static str]) -> Figure {
    Figure {
        name,
        parts,
        who: STORES,
        rounds: 1,
    }
}

const FIGURES: &[Figure] = &[
    short("durable commits, 1 writer", &["commit 1"]),
    short("durable commits, 16 writers", &["commit 16"]),
    short("durable commits, 64 writers", &["commit 64"]),
    short("64 records a durable commit, 1 writer", &["batch 1"]),
    short("64 records a durable commit, 16 writers", &["batch 16"]),
    long("1 M records of 100 bytes", &["records"]),
    long("killed under load, 1 M records", &["crash", "open"]),
    long("disk, 137 MiB in records of 100 bytes", &["disk"]),
    long("disk, 137 MiB through a queue", &["queue"]),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, part, who, dir] = args.as_slice()
        && flag == "--child"
    {
        return child(part, who, Path::new(dir));
    }
    let arg = |index: usize| args.get(index).map_or("", String::as_str);
    let rounds: Option<usize> = arg(2).parse().ok();
    for figure in FIGURES.iter().filter(|figure| figure.name.contains(arg(0))) {
        measure(figure, arg(1), rounds.unwrap_or(figure.rounds));
    }
}

/// Runs one part for one store, in this process.
fn child(part: &str, who: &str, dir: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        match who {
            "fdatasync" => figures::run::<Alone<Log>>(part, dir).await,
            "log" => figures::run::<Grouped<Log>>(part, dir).await,
            "sled" => figures::run::<Grouped<Sled>>(part, dir).await,
            "redb" => figures::run::<Grouped<Redb>>(part, dir).await,
            "fjall" => figures::run::<Grouped<Fjall>>(part, dir).await,
            "mas" => figures::run::<Mas>(part, dir).await,
            _ => panic!("no store is called {who}"),
        }
    });
}

/// Measures all whose name holds `only`, and prints their table.
fn measure(figure: &Figure, only: &str, rounds: usize) {
    let who: Vec<&str> = figure
        .who
        .iter()
        .copied()
        .filter(|who| who.contains(only))
        .collect();
    let mut taken: Vec<Vec<Row>> = vec![Vec::new(); who.len()];
    for _ in 0..rounds {
        for (own, who) in taken.iter_mut().zip(&who) {
            let dir = directory(who);
            for part in figure.parts {
                own.extend(process::run(part, who, &dir));
            }
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for row in taken.iter().flatten() {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    println!("| {} | {} |", figure.name, who.join(" | "));
    println!("|---{}|", "|---".repeat(who.len()));
    for name in names {
        let cells: Vec<String> = taken.iter().map(|own| cell(own, name)).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    println!();
}

/// The median of what was measured under this name, and the lowest and highest.
fn cell(rows: &[Row], name: &str) -> String {
    let mut own: Vec<&Row> = rows.iter().filter(|row| row.name == name).collect();
    own.sort_by(|a, b| a.value.total_cmp(&b.value));
    let Some(row) = own.get(own.len() / 2) else {
        return "-".to_owned();
    };
    let text = |row: &Row| match row.value {
        value if value.fract() == 0.0 || value >= 10.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    };
    let median = format!("{} {}", text(row), row.unit);
    match own.as_slice() {
        [first, .., last] => format!("{median} ({}-{})", text(first), text(last)),
        _ => median.trim_end().to_owned(),
    }
}

/// A fresh directory beside the program's own, so on the disk that is meant.
fn directory(who: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this program");
    let target = own
        .parent()
        .and_then(Path::parent)
        .expect("a target folder");
    let dir = target.join("stores").join(who);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a folder");
    dir
}
