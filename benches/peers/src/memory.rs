//! What an idle agent weighs: the growth of this process's resident memory.

fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(f64::NAN)
}

/// KB an agent: `spawn` makes this many, and calls back while they live.
pub fn of(spawn: fn(u64, fn() -> f64) -> (f64, f64)) -> f64 {
    const AGENTS: u64 = 20_000;
    let (before, after) = spawn(AGENTS, resident_kib);
    (after - before) / AGENTS as f64
}
