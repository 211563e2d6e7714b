//! mas beside its peers, in one run: each figure is measured in turn, round by round, and the median is shown.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml [-- FIGURE [WHO [ROUNDS]]]`

mod actix_peer;
mod kameo_peer;
mod mas_peer;
mod memory;
mod ractor_peer;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What every message carries: 64 bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Payload {
    words: [u64; 8],
}

impl Payload {
    pub fn new(number: u64) -> Self {
        Self { words: [number; 8] }
    }

    pub fn number(&self) -> u64 {
        self.words[0]
    }
}

/// How often each figure is measured.
const ROUNDS: usize = 7;

/// A runtime like `#[tokio::main]` on this machine.
pub fn block_on<T>(future: impl Future<Output = T> + Send + 'static) -> T
where
    T: Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { tokio::spawn(future).await.expect("the task ends well") })
}

/// How long `count` operations took.
pub struct Took {
    pub count: u64,
    pub time: Duration,
}

impl Took {
    pub fn since(start: Instant, count: u64) -> Self {
        Self {
            count,
            time: start.elapsed(),
        }
    }

    fn per_second(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }

    fn nanos(&self) -> f64 {
        self.time.as_nanos() as f64 / self.count as f64
    }
}

type Run = fn() -> Took;

/// One line of the table: the same work done by several.
struct Figure {
    name: &'static str,
    unit: Unit,
    runs: &'static [(&'static str, Run)],
}

#[derive(Clone, Copy)]
enum Unit {
    MillionsPerSecond,
    MicrosEach,
}

const FIGURES: &[Figure] = &[
    Figure {
        name: "tell 1 -> 1, typed",
        unit: Unit::MillionsPerSecond,
        runs: &[
            ("ractor", ractor_peer::tell),
            ("kameo", kameo_peer::tell),
            ("actix", actix_peer::tell),
            ("mas", mas_peer::tell),
        ],
    },
    Figure {
        name: "tell 1 -> 1, by message type",
        unit: Unit::MillionsPerSecond,
        runs: &[("ractor", ractor_peer::tell), ("mas", mas_peer::tell_by_type)],
    },
    Figure {
        name: "fan-in 8 -> 1",
        unit: Unit::MillionsPerSecond,
        runs: &[
            ("ractor", ractor_peer::fan_in),
            ("kameo", kameo_peer::fan_in),
            ("mas", mas_peer::fan_in),
        ],
    },
    Figure {
        name: "ask, 64 in flight",
        unit: Unit::MillionsPerSecond,
        runs: &[
            ("ractor", ractor_peer::ask_many),
            ("kameo", kameo_peer::ask_many),
            ("mas", mas_peer::ask_many),
        ],
    },
    Figure {
        name: "ask, one at a time",
        unit: Unit::MicrosEach,
        runs: &[
            ("ractor", ractor_peer::ask_one),
            ("kameo", kameo_peer::ask_one),
            ("mas", mas_peer::ask_one),
        ],
    },
    Figure {
        name: "10 000 agents, random target by id",
        unit: Unit::MillionsPerSecond,
        runs: &[
            ("ractor", ractor_peer::many),
            ("mas", mas_peer::many),
        ],
    },
    Figure {
        name: "spawn",
        unit: Unit::MicrosEach,
        runs: &[("ractor", ractor_peer::spawn), ("mas", mas_peer::spawn)],
    },
    Figure {
        name: "restart after an error",
        unit: Unit::MicrosEach,
        runs: &[("mas", mas_peer::restart_error)],
    },
    Figure {
        name: "restart after a panic",
        unit: Unit::MicrosEach,
        runs: &[("mas", mas_peer::restart_panic)],
    },
    Figure {
        name: "discover 10 among 100 000",
        unit: Unit::MicrosEach,
        runs: &[("mas", mas_peer::discover)],
    },
];

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let filter = std::env::args().nth(1).unwrap_or_default();
    let only = std::env::args().nth(2).unwrap_or_default();
    let rounds = std::env::args().nth(3).and_then(|rounds| rounds.parse().ok());
    for figure in FIGURES.iter().filter(|figure| figure.name.contains(&filter)) {
        measure(figure, &only, rounds.unwrap_or(ROUNDS));
    }
    if "idle agent".contains(&filter) {
        println!("idle agent: ractor {:.1} KB, mas {:.1} KB", memory::of(ractor_peer::idle), memory::of(mas_peer::idle));
    }
}

/// Measures all who do this work, or only one of them: for a profiler.
fn measure(figure: &Figure, only: &str, rounds: usize) {
    let mut taken: Vec<Vec<f64>> = vec![Vec::new(); figure.runs.len()];
    for _ in 0..rounds {
        for (own, (name, run)) in taken.iter_mut().zip(figure.runs) {
            if !name.contains(only) {
                continue;
            }
            let took = run();
            own.push(match figure.unit {
                Unit::MillionsPerSecond => took.per_second() / 1e6,
                Unit::MicrosEach => took.nanos() / 1e3,
            });
        }
    }
    let unit = match figure.unit {
        Unit::MillionsPerSecond => "M/s",
        Unit::MicrosEach => "us",
    };
    print!("{:<36}", figure.name);
    for (own, (name, _)) in taken.iter_mut().zip(figure.runs) {
        if own.is_empty() {
            continue;
        }
        own.sort_by(f64::total_cmp);
        print!(
            " | {name} {:.2} ({:.2}-{:.2})",
            own[own.len() / 2],
            own[0],
            own[own.len() - 1]
        );
    }
    println!(" {unit}");
}
