//! The steps of an examination.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::compare::{Print, compare};
use super::leaves::{self, Leaves};
use super::relations;
use super::report::{Examination, Place, Severity};
use super::walk::{Tail, kept};
use crate::store::embedded::body;
use crate::store::embedded::open::{self, FORMAT_EARLIER, Format, OpenError};
use crate::store::embedded::portable::Progress;
use crate::store::embedded::recovery::{self, Plan};
use crate::store::log::{self, LogError};
use crate::store::tree::frozen::SnapshotIndex;
use crate::store::tree::pack::{PackFault, Packs, StoreId};
use crate::store::tree::refs::LeafIndex;
use crate::store::{Corrupt, StoreError};

/// Examines a store whose disk forgets what is changed.
pub(in super::super) fn run(
    plan: &Plan,
    progress: &mut dyn FnMut(Progress),
) -> Result<Examination, OpenError> {
    let dir = &plan.layout.dir;
    let store = match open::read_format(&*plan.disk, &plan.layout)? {
        Format::Current(store, _) => store,
        Format::Earlier => {
            let (dir, found) = (dir.clone(), FORMAT_EARLIER);
            return Err(OpenError::EarlierFormat { dir, found });
        }
        Format::New if recovery::holds_something(plan)? => {
            let reason = "it holds records but no file `format`";
            return Err(OpenError::damaged(dir, reason));
        }
        Format::New => {
            let mut nothing = Examination::default();
            nothing.position = Some(0);
            return Ok(nothing);
        }
    };
    let mut exam = Exam {
        plan,
        store,
        progress,
        opens: true,
        found: Examination::default(),
    };
    exam.look_for_strangers()?;
    let packs = exam.packs()?;
    exam.examine(&packs)
        .map_err(|error| OpenError::of_store(dir, error))?;
    if !exam.opens {
        exam.found.position = None;
    }
    Ok(exam.found)
}

struct Exam<'e> {
    plan: &'e Plan,
    store: StoreId,
    progress: &'e mut dyn FnMut(Progress),
    /// Whether nothing was found that keeps the store from being opened.
    opens: bool,
    found: Examination,
}

/// An index or a snapshot.
struct Candidate {
    /// It can be read to its end.
    index: Option<Arc<dyn LeafIndex>>,
    /// Why it can't be trusted.
    fault: Option<(Place, String)>,
}

impl Candidate {
    fn new(opened: Result<Arc<dyn LeafIndex>, StoreError>, packs: &Packs, place: Place) -> Self {
        let told = |error: &StoreError| match error {
            StoreError::Corrupt(corrupt) => corrupt.reason.clone(),
            StoreError::Io { source, .. } => format!("{error}: {source}"),
            other => other.to_string(),
        };
        let index = match opened {
            Ok(index) => index,
            Err(error) => {
                let fault = Some((place, told(&error)));
                return Self { index: None, fault };
            }
        };
        let fault = match leaves::fault(&*index, packs) {
            Ok(fault) => {
                fault.map(|(at, what)| (at, format!("{what}, and the {place} refers to it")))
            }
            Err(error) => Some((place, told(&error))),
        };
        Self {
            index: Some(index),
            fault,
        }
    }

    fn position(&self) -> Option<u64> {
        self.index.as_ref().map(|index| index.position())
    }

    /// The index, when it can be trusted.
    fn usable(&self) -> Option<&dyn LeafIndex> {
        self.index.as_deref().filter(|_| self.fault.is_none())
    }
}

impl Exam<'_> {
    fn add(&mut self, severity: Severity, place: Place, what: impl Into<String>) {
        self.found.add(severity, place, what);
    }

    /// Files that no part of the store has made.
    fn look_for_strangers(&mut self) -> Result<(), OpenError> {
        let (disk, layout) = (&self.plan.disk, &self.plan.layout);
        let names = |dir: &Path| disk.names(dir).map_err(OpenError::io("list", dir));
        let mut strangers = names(&layout.dir)?;
        strangers.retain(|name| !layout.knows(name));
        let mut in_log = names(&layout.log)?;
        in_log.retain(|name| !log::knows(name));
        strangers.extend(in_log.iter().map(|name| format!("log/{name}")));
        for name in strangers {
            let place = Place::File { path: name.into() };
            self.add(Severity::Harmless, place, "it does not belong to the store");
        }
        Ok(())
    }

    /// The packs that can be opened.
    fn packs(&mut self) -> Result<Packs, OpenError> {
        let (disk, layout) = (&self.plan.disk, &self.plan.layout);
        let mut faults = Vec::new();
        let packs = Packs::look(disk, &layout.packs, self.store, &mut |name, fault| {
            faults.push((name.to_owned(), fault));
        });
        let packs = packs.map_err(|error| OpenError::of_store(&layout.dir, error))?;
        for (name, fault) in faults {
            let (severity, what) = match fault {
                PackFault::Foreign => (
                    Severity::Loss,
                    "it is another pack, or one of another store: take it out of this folder"
                        .to_owned(),
                ),
                PackFault::Header => (
                    Severity::Harmless,
                    "its header is damaged, its leaves are checked by themselves".to_owned(),
                ),
                PackFault::Stranger => (
                    Severity::Harmless,
                    "it does not belong to the store".to_owned(),
                ),
                PackFault::Unfinished => (
                    Severity::Harmless,
                    "it never got its header: opening removes it".to_owned(),
                ),
                PackFault::Unreadable(reason) => (Severity::Loss, reason),
            };
            self.opens &= severity != Severity::Loss;
            let path = Path::new("packs").join(name);
            self.add(severity, Place::File { path }, what);
        }
        Ok(packs)
    }

    fn examine(&mut self, packs: &Packs) -> Result<(), StoreError> {
        let layout = &self.plan.layout;
        let snapshot = SnapshotIndex::open(&*self.plan.disk, &layout.snapshot, self.store);
        let snapshot = snapshot.and_then(|snapshot| match snapshot {
            Some(snapshot) => Ok(Arc::new(snapshot) as Arc<dyn LeafIndex>),
            None => Err(Corrupt::new("snapshot", "it is not there").into()),
        });
        let snapshot = Candidate::new(snapshot, packs, Place::Snapshot);
        let index = Candidate::new(self.plan.home.open(), packs, Place::Index);
        let examined = self.examine_both(packs, &index, &snapshot);
        if let Some(index) = &index.index {
            // It is a copy that was not changed.
            let _ = index.close();
        }
        examined
    }

    fn examine_both(
        &mut self,
        packs: &Packs,
        index: &Candidate,
        snapshot: &Candidate,
    ) -> Result<(), StoreError> {
        self.found.totals.snapshot = snapshot.position();
        self.found.totals.index = index.usable().map(LeafIndex::position);
        let is_behind = |index: &&dyn LeafIndex| Some(index.position()) < snapshot.position();
        let ahead = index.usable().filter(|index| !is_behind(index));
        // As opening chooses.
        let base = ahead.or(snapshot.usable());
        if let Some((place, what)) = &index.fault {
            let severity = mended(base.is_some());
            self.add(severity, place.clone(), what.clone());
        } else if ahead.is_none() {
            let what = "it is behind the snapshot";
            self.add(mended(base.is_some()), Place::Index, what);
        }
        if let Some((place, what)) = &snapshot.fault {
            let severity = mended(ahead.is_some());
            self.add(severity, place.clone(), what.clone());
        }
        let Some(base) = base else {
            let what = "neither the index nor the snapshot can be trusted: restore a backup";
            self.add(Severity::Loss, Place::Index, what);
            self.opens = false;
            return self.log(None, snapshot.position()).map(drop);
        };
        let tail = self.log(Some(base), snapshot.position())?;
        let checked = {
            let Self {
                found, progress, ..
            } = self;
            let mut tell = |done| progress(done);
            let pass_none = |_: &[u8], _| false;
            let of = (base, packs);
            leaves::check(of, Severity::Loss, &pass_none, found, Some(&mut tell))?
        };
        let mut bad = checked.bad;
        let mut of_snapshot = Leaves::default();
        if let Some(other) = snapshot.usable().filter(|_| ahead.is_some()) {
            let is_checked = |first: &[u8], leaf| {
                let same = base.floor(first);
                same.is_ok_and(|same| same.is_some_and(|same| same.0 == first && same.1 == leaf))
            };
            let of = (other, packs);
            let found = &mut self.found;
            of_snapshot = leaves::check(of, Severity::Repairable, &is_checked, found, None)?;
            bad += of_snapshot.bad;
        }
        self.count_packs(packs, &checked, &of_snapshot);
        if let (0, Some(position)) = (checked.bad, self.found.position) {
            relations::check((base, packs), &tail, position, &mut self.found)?;
        }
        if let (0, Some(index), Some(snapshot)) = (bad, ahead, snapshot.usable()) {
            self.compare(packs, index, snapshot)?;
        }
        Ok(())
    }

    /// Reads the log, and what opening would replay of it. Gives what that changes.
    fn log(
        &mut self,
        base: Option<&dyn LeafIndex>,
        snapshot: Option<u64>,
    ) -> Result<Tail, StoreError> {
        let (disk, dir) = (&self.plan.disk, &self.plan.layout.log);
        let failed = |error: LogError| StoreError::failed(error.to_string());
        let report = log::inspect::inspect(&**disk, dir).map_err(failed)?;
        let totals = &mut self.found.totals;
        totals.segments = report.segments.len() as u64;
        totals.log_bytes = report.segments.iter().map(|it| it.file_bytes).sum();
        let mut tail = Tail::new();
        let after = base.map(LeafIndex::position);
        let is_read = self.replay(after, &mut tail);
        for (at, segment) in report.segments.iter().enumerate() {
            let place = |offset| Place::Log {
                segment: segment.number,
                offset,
            };
            if let Some(problem) = &segment.problem {
                let next = report.segments.get(at + 1).and_then(|next| next.first);
                // Nobody asks for what stands before the snapshot.
                let is_needed = next.is_none_or(|next| snapshot.is_none_or(|at| next > at + 1));
                let severity = match (&is_read, is_needed) {
                    (Err(_), _) => Severity::Loss,
                    (Ok(()), true) => Severity::Repairable,
                    (Ok(()), false) => Severity::Harmless,
                };
                self.found
                    .add(severity, place(problem.offset), problem.reason.clone());
            }
            if segment.torn_bytes > 0 {
                let bytes = segment.torn_bytes;
                let what = format!(
                    "{bytes} bytes that a crash has left in part: nobody was told that they are stored"
                );
                self.found
                    .add(Severity::Repairable, place(segment.used_bytes), what);
            }
        }
        if let Err((place, what)) = is_read {
            self.opens = false;
            let is_told = |told: &super::Finding| told.place == place;
            if !self.found.findings.iter().any(is_told) {
                self.add(Severity::Loss, place, what);
            }
        }
        Ok(tail)
    }

    /// Replays the log as opening does, behind a commit.
    fn replay(&mut self, after: Option<u64>, tail: &mut Tail) -> Result<(), (Place, String)> {
        let Some(after) = after else {
            return Ok(());
        };
        let (disk, dir) = (&self.plan.disk, &self.plan.layout.log);
        let (found, mut undecoded) = (&mut self.found, None);
        let mut take = |position, changes: &[u8]| {
            let decoded = body::decode(changes, |key, value| {
                if let Some(value) = &value {
                    leaves::check_record(&key, value.clone(), found);
                }
                tail.insert(key, value.map(|value| kept(&value)));
            });
            if let Err(corrupt) = decoded {
                undecoded.get_or_insert((position, corrupt));
            }
            Ok(())
        };
        let here = Place::File { path: "log".into() };
        let looked = log::look::<LogError>(disk, dir, self.store, after, &mut take);
        if let Some((position, corrupt)) = undecoded {
            return Err((here, format!("commit {position}: {}", corrupt.reason)));
        }
        match looked {
            Err(LogError::Corrupt {
                segment,
                offset,
                position,
                reason,
            }) => {
                let what = format!("position {position} was expected: {reason}");
                Err((Place::Log { segment, offset }, what))
            }
            Err(error) => Err((here, error.to_string())),
            Ok(None) => Err((here, "the commit log is missing".to_owned())),
            Ok(Some(read)) if read.first > after + 1 || read.last < after => {
                let (first, last) = (read.first, read.last);
                let what = format!("it goes from {first} to {last}, but the index is at {after}");
                Err((here, what))
            }
            Ok(Some(read)) => {
                self.found.position = Some(read.last);
                self.found.totals.replayed = read.last - after;
                Ok(())
            }
        }
    }

    /// Counts what packs hold, and says which nobody needs.
    fn count_packs(&mut self, packs: &Packs, base: &Leaves, other: &Leaves) {
        for (number, used) in packs.used() {
            let live = base.live.get(&number).copied().unwrap_or(0);
            let totals = &mut self.found.totals;
            totals.packs += 1;
            totals.pack_bytes += used.size;
            totals.garbage_bytes += used.size.saturating_sub(live);
            if live == 0 && !other.live.contains_key(&number) {
                let (pack, offset) = (number, 0);
                let what = "nobody refers to it: it is removed when the store is opened";
                self.add(Severity::Harmless, Place::Pack { pack, offset }, what);
            }
        }
    }

    /// Compares the index with what the log makes of the snapshot.
    fn compare(
        &mut self,
        packs: &Packs,
        index: &dyn LeafIndex,
        snapshot: &dyn LeafIndex,
    ) -> Result<(), StoreError> {
        let (from, to) = (snapshot.position(), index.position());
        let mut changes = BTreeMap::new();
        let mut take = |position, body: &[u8]| {
            if position <= to {
                // What can't be decoded was told before.
                let _ = body::decode(body, |key, value| {
                    changes.insert(key, value.as_deref().map(Print::of));
                });
            }
            Ok(())
        };
        let (disk, dir) = (&self.plan.disk, &self.plan.layout.log);
        let looked = log::look::<LogError>(disk, dir, self.store, from, &mut take);
        let Ok(Some(read)) = looked else {
            // That was told, too.
            return Ok(());
        };
        if read.first > from + 1 {
            let what = format!(
                "the log begins behind it, at {}: the index could not be made anew",
                read.first
            );
            self.add(Severity::Repairable, Place::Snapshot, what);
            return Ok(());
        }
        compare((snapshot, packs), (index, packs), &changes, &mut self.found)
    }
}

/// What trouble means with something that is made anew, or can't be.
const fn mended(is_mended: bool) -> Severity {
    match is_mended {
        true => Severity::Repairable,
        false => Severity::Loss,
    }
}
