//! A figure runs in a process of its own, so that its memory is its own and so that it can be killed.
//!
//! The child says what it found on standard output, one line each: name, tab, number, tab, unit.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What a child says once it may be killed.
const READY: &str = "ready";

/// One measured number.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub value: f64,
    pub unit: String,
}

/// Says a number to the parent.
pub fn tell(name: &str, value: f64, unit: &str) {
    println!("{name}\t{value}\t{unit}");
}

/// Says to the parent that it may go on.
pub fn tell_ready() {
    println!("{READY}");
}

/// The most memory that this process has had, in MiB.
pub fn memory_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// What the processors did since the boot, in ticks.
pub struct Ticks {
    /// All of them, at work or idle.
    total: u64,
    busy: u64,
    own: u64,
}

impl Ticks {
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let first = stat.lines().next().unwrap_or_default();
        let all = numbers(first);
        let total = all.iter().take(8).sum::<u64>();
        // Idle, and waiting for the disk.
        let idle = all.iter().skip(3).take(2).sum::<u64>();
        let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let own = numbers(own.rsplit(')').next().unwrap_or_default());
        Self {
            total,
            busy: total - idle,
            // Without its name and state, time as a user is the eleventh, and as the system the twelfth.
            own: own.iter().skip(10).take(2).sum(),
        }
    }

    /// Says how much of the processors others took since then.
    pub fn tell_others(&self) {
        let now = Self::now();
        let others = (now.busy - self.busy).saturating_sub(now.own - self.own);
        let share = others as f64 / (now.total - self.total).max(1) as f64;
        tell("processors taken by others", share * 100.0, "%");
    }
}

/// The numbers in a line of words.
fn numbers(line: &str) -> Vec<u64> {
    line.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Runs `part` of a figure to its end, or kills it as soon as it is ready.
pub fn run(part: &str, who: &str, dir: &Path) -> Vec<Row> {
    let mut child = start(part, who, dir);
    let output = child.stdout.take().expect("its output");
    let mut rows = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.expect("text");
        if line == READY {
            // It writes on meanwhile.
            std::thread::sleep(std::time::Duration::from_millis(300));
            child.kill().expect("killed");
            break;
        }
        rows.extend(parse(&line));
    }
    child.wait().expect("its end");
    rows
}

fn start(part: &str, who: &str, dir: &Path) -> Child {
    let own = std::env::current_exe().expect("this program");
    let mut command = Command::new(own);
    command.arg("--child").args([part, who]).arg(dir);
    command.stdout(Stdio::piped()).spawn().expect("a process")
}

fn parse(line: &str) -> Option<Row> {
    let mut parts = line.split('\t');
    Some(Row {
        name: parts.next()?.to_owned(),
        value: parts.next()?.parse().ok()?,
        unit: parts.next()?.to_owned(),
    })
}

/// What `dir` takes on the disk, in MiB: blocks, not lengths.
pub fn disk_mib(dir: &Path) -> f64 {
    blocks(dir) as f64 * 512.0 / (1024.0 * 1024.0)
}

fn blocks(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => blocks(&entry.path()),
        Ok(metadata) => metadata.blocks(),
        // Gone since the listing.
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
