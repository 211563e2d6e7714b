//! What an examination says.

use std::fmt;
use std::path::PathBuf;

use crate::model::limits::STORE_FINDINGS_MAX;

/// What a finding means for what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "these are all there can be")]
pub enum Severity {
    /// Nothing: something is there that nobody needs.
    Harmless,
    /// What is stored can be had, and opening the store, or closing it again, mends this. Until then it may be missed.
    Repairable,
    /// Something that was committed is gone, or readers would get something else, or the store does not open.
    Loss,
}

/// Where something was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In a segment of the commit log.
    Log {
        /// The number of the segment.
        segment: u64,
        /// Where in its file, in bytes.
        offset: u64,
    },
    /// In a pack.
    Pack {
        /// The number of the pack.
        pack: u64,
        /// Where in its file, in bytes.
        offset: u64,
    },
    /// In the snapshot.
    Snapshot,
    /// In the index.
    Index,
    /// In the record with this key: its kind, its name, and the rest in hexadecimal. Of a secret only the kind is told.
    Record {
        /// The key.
        key: String,
    },
    /// A file or folder.
    File {
        /// Which, from the data directory on.
        path: PathBuf,
    },
}

/// Something that an examination has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What it means.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// What was found there.
    pub what: String,
}

/// What an examination means as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "one for each severity")]
pub enum Verdict {
    /// All that was committed is there.
    Sound,
    /// All that was committed is there, and opening the store mends what is not as it should be.
    Repairs,
    /// Something that was committed is gone, or would be read wrongly, or the store does not open.
    Lossy,
}

impl Verdict {
    /// What a command that examines ends with: 0 sound, 1 repairs, 2 lossy.
    pub const fn exit_code(self) -> u8 {
        self as u8
    }
}

/// How much an examination has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// The commit that the snapshot reflects, when it can be read.
    pub snapshot: Option<u64>,
    /// The commit that the index reflects, when it can be trusted.
    pub index: Option<u64>,
    /// Commits behind what opening would begin from: it would replay them.
    pub replayed: u64,
    /// Segments of the commit log.
    pub segments: u64,
    /// Bytes of their files.
    pub log_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes of their files.
    pub pack_bytes: u64,
    /// Bytes in them that the index does not refer to, or the snapshot where the index can't be trusted.
    pub garbage_bytes: u64,
    /// Leaves that the index refers to, or the snapshot where the index can't be trusted.
    pub leaves: u64,
    /// Records in these.
    pub records: u64,
    /// Bytes of these records.
    pub record_bytes: u64,
    /// Values that are sealed: they are what was written, and were not looked into.
    pub sealed: u64,
}

/// What an examination has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Examination {
    /// The last commit that opening the store would find; `None` when it does not open.
    pub position: Option<u64>,
    /// What is not as it should be, in the order in which it was found: at most 1000 of each severity.
    pub findings: Vec<Finding>,
    /// Findings beyond these.
    pub left_out: u64,
    /// How much there is.
    pub totals: Totals,
    /// How often each severity was found.
    counts: [usize; 3],
}

impl Examination {
    /// What it means as a whole.
    pub fn verdict(&self) -> Verdict {
        match self.counts {
            [_, 0, 0] => Verdict::Sound,
            [_, _, 0] => Verdict::Repairs,
            _ => Verdict::Lossy,
        }
    }

    pub(super) fn add(&mut self, severity: Severity, place: Place, what: impl Into<String>) {
        let count = &mut self.counts[severity as usize];
        *count += 1;
        if *count > STORE_FINDINGS_MAX {
            self.left_out += 1;
            return;
        }
        self.findings.push(Finding {
            severity,
            place,
            what: what.into(),
        });
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Harmless => "harmless",
            Self::Repairable => "repairable",
            Self::Loss => "loss",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { segment, offset } => {
                write!(f, "segment {segment} of the commit log, byte {offset}")
            }
            Self::Pack { pack, offset } => write!(f, "pack {pack}, byte {offset}"),
            Self::Snapshot => f.write_str("snapshot"),
            Self::Index => f.write_str("index"),
            Self::Record { key } => f.write_str(key),
            Self::File { path } => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.severity, self.place, self.what)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sound => "sound",
            Self::Repairs => "opening it repairs it",
            Self::Lossy => "something is lost, or is not what was committed",
        })
    }
}

/// The report for people: the verdict, how much there is, then a line a finding.
impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict())?;
        let totals = &self.totals;
        match self.position {
            Some(position) => write!(f, "last commit {position}")?,
            None => write!(f, "it does not open")?,
        }
        let commit = |at: Option<u64>| at.map_or("none".to_owned(), |at| format!("at commit {at}"));
        let (index, snapshot) = (commit(totals.index), commit(totals.snapshot));
        writeln!(
            f,
            "; index {index}, snapshot {snapshot}, {} to replay",
            totals.replayed
        )?;
        writeln!(
            f,
            "{} records in {} leaves, {} bytes; {} packs, {} bytes, {} of them garbage; {} segments of the log, {} bytes",
            totals.records,
            totals.leaves,
            totals.record_bytes,
            totals.packs,
            totals.pack_bytes,
            totals.garbage_bytes,
            totals.segments,
            totals.log_bytes
        )?;
        if totals.sealed > 0 {
            writeln!(
                f,
                "{} values are sealed and were not looked into",
                totals.sealed
            )?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if self.left_out > 0 {
            writeln!(f, "and {} findings more", self.left_out)?;
        }
        Ok(())
    }
}
