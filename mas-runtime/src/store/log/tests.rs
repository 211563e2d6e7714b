use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::prelude::*;

use super::inspect::{cut, inspect};
use super::*;
use crate::store::disk::RealDisk;

const DIR: &str = "log";
const STORE: [u8; 16] = *b"0123456789abcdef";
const SECTOR: usize = 512;
const SMALL: LogOptions = LogOptions {
    segment_bytes: 4096,
};

/// A disk in memory that fails when it is told to, and that loses at a power cut what was not synced.
#[derive(Clone, Debug, Default)]
struct MemDisk(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    files: Vec<MemFile>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// The next call of this kind fails, and has half of its effect.
    fail: Option<&'static str>,
    /// So many more changes are made; then all fail.
    changes_left: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct MemFile {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that the next sync brings to the disk. A sync that fails forgets them, as Linux does.
    dirty: BTreeSet<usize>,
}

#[derive(Debug)]
struct Handle(MemDisk, usize);

impl MemDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The same disk, apart from this one.
    fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    fn fail(&self, what: &'static str) {
        self.state().fail = Some(what);
    }

    fn path(number: u64) -> PathBuf {
        segment::path(Path::new(DIR), number)
    }

    fn bytes(&self, number: u64) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[&Self::path(number)]].now.clone()
    }

    /// Puts bytes in a file, on disk.
    fn put(&self, number: u64, bytes: Vec<u8>) {
        let mut state = self.state();
        let id = state.files.len();
        state.files.push(MemFile {
            now: bytes.clone(),
            durable: bytes,
            dirty: BTreeSet::new(),
        });
        state.names.insert(Self::path(number), id);
        state.durable_names.insert(Self::path(number), id);
    }

    /// The sectors of the file that a power cut may lose.
    fn dirty(&self, number: u64) -> Vec<usize> {
        let state = self.state();
        let file = &state.files[state.names[&Self::path(number)]];
        file.dirty.iter().copied().collect()
    }

    fn segments(&self) -> Vec<u64> {
        segment::numbers(self, Path::new(DIR)).unwrap()
    }

    /// What a power cut leaves, when `keeps` says of everything that was not synced whether it came to the disk.
    fn power_cut(&self, keeps: &mut dyn FnMut() -> bool) {
        let mut state = self.state();
        let state = &mut *state;
        for file in &mut state.files {
            if file.now.len() != file.durable.len() && keeps() {
                file.durable.resize(file.now.len(), 0);
            }
            for sector in std::mem::take(&mut file.dirty) {
                if keeps() {
                    bring(&file.now, &mut file.durable, sector);
                }
            }
            file.now = file.durable.clone();
        }
        let paths: BTreeSet<PathBuf> = state
            .names
            .keys()
            .chain(state.durable_names.keys())
            .cloned()
            .collect();
        for path in paths {
            let (now, durable) = (state.names.get(&path), state.durable_names.get(&path));
            if now != durable && keeps() {
                match now.copied() {
                    Some(id) => state.durable_names.insert(path, id),
                    None => state.durable_names.remove(&path),
                };
            }
        }
        state.names = state.durable_names.clone();
        state.fail = None;
        state.changes_left = None;
    }
}

fn bring(from: &[u8], to: &mut [u8], sector: usize) {
    let end = ((sector + 1) * SECTOR).min(from.len()).min(to.len());
    let start = (sector * SECTOR).min(end);
    to[start..end].copy_from_slice(&from[start..end]);
}

impl State {
    /// Whether a change is made, and whether the caller is told that it was.
    fn change(&mut self, what: &'static str) -> (bool, io::Result<()>) {
        if self.fail == Some(what) {
            self.fail = None;
            return (true, Err(io::Error::other("told to fail")));
        }
        match &mut self.changes_left {
            Some(0) => return (false, Err(io::Error::other("no power"))),
            Some(left) => *left -= 1,
            None => {}
        }
        (true, Ok(()))
    }
}

impl Disk for MemDisk {
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn names(&self, _: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let names = state
            .names
            .keys()
            .filter_map(|path| path.file_name()?.to_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.change("create").1?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.files.len();
        state.files.push(MemFile::default());
        state.names.insert(path.to_owned(), id);
        Ok(Arc::new(Handle(self.clone(), id)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.state().names.get(path).copied();
        let id = id.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Handle(self.clone(), id)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change("rename").1?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change("remove").1?;
        let removed = state.names.remove(path);
        removed.map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change("sync_dir").1?;
        state.durable_names = state.names.clone();
        Ok(())
    }
}

impl DiskFile for Handle {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.state().files[self.1].now.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.state().files[self.1].now.resize(size as usize, 0);
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.0.state();
        let from = state.files[self.1]
            .now
            .get(offset as usize..)
            .unwrap_or_default();
        let bytes = from
            .get(..buffer.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.state();
        let (is_made, told) = state.change("write");
        let bytes = match &told {
            Ok(()) => bytes,
            Err(_) if is_made => &bytes[..bytes.len() / 2],
            Err(_) => return told,
        };
        let (offset, end) = (offset as usize, offset as usize + bytes.len());
        let file = &mut state.files[self.1];
        if file.now.len() < end {
            file.now.resize(end, 0);
        }
        file.now[offset..end].copy_from_slice(bytes);
        file.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
        told
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.state();
        let (is_made, told) = state.change("sync");
        let file = &mut state.files[self.1];
        if told.is_err() {
            if is_made {
                file.dirty.clear();
            }
            return told;
        }
        file.durable.resize(file.now.len(), 0);
        for sector in std::mem::take(&mut file.dirty) {
            bring(&file.now, &mut file.durable, sector);
        }
        Ok(())
    }
}

type Records = Vec<(u64, Vec<u8>)>;

fn open_on(
    disk: &dyn Fn() -> Arc<dyn Disk>,
    dir: &Path,
    after: u64,
) -> Result<(Log, Recovered, Records), LogError> {
    let mut records = Vec::new();
    let mut keep = |position: u64, body: &[u8]| -> Result<(), LogError> {
        records.push((position, body.to_vec()));
        Ok(())
    };
    let (log, recovered) = Log::open(disk(), dir, SMALL, STORE, after, &mut keep)?;
    Ok((log, recovered, records))
}

fn open(disk: &MemDisk) -> Result<(Log, Recovered, Records), LogError> {
    open_after(disk, 0)
}

fn open_after(disk: &MemDisk, after: u64) -> Result<(Log, Recovered, Records), LogError> {
    open_on(&|| Arc::new(disk.clone()), Path::new(DIR), after)
}

/// A body that no other position has.
fn body(position: u64, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| (position as usize * 31 + at * 7) as u8 | 1)
        .collect()
}

fn put(log: &mut Log, positions: RangeInclusive<u64>, bytes: usize) {
    for position in positions {
        log.append(position, &body(position, bytes)).unwrap();
    }
    log.write().unwrap();
}

fn put_synced(log: &mut Log, positions: RangeInclusive<u64>, bytes: usize) {
    put(log, positions, bytes);
    log.sync().unwrap();
}

fn close(log: &mut Log) {
    log.sync().unwrap();
    log.mark().unwrap();
    log.sync().unwrap();
}

fn expected(positions: RangeInclusive<u64>, bytes: usize) -> Records {
    positions
        .map(|position| (position, body(position, bytes)))
        .collect()
}

fn is_damage(error: &LogError) -> bool {
    matches!(error, LogError::Corrupt { .. })
}

/// Three segments with records of 600 bytes, synced one by one: 6, 6 and 3 of them.
fn three_segments() -> (MemDisk, Log, Records) {
    let disk = MemDisk::default();
    let (mut log, recovered, _) = open(&disk).unwrap();
    assert_eq!(
        (recovered.first, recovered.last, recovered.segments),
        (1, 0, 0)
    );
    for position in 1..=15 {
        put_synced(&mut log, position..=position, 600);
    }
    assert_eq!(disk.segments(), [1, 2, 3]);
    (disk, log, expected(1..=15, 600))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn format_1_is_as_it_was() {
    let disk = MemDisk::default();
    let mut log = Log::create(Arc::new(disk.clone()), Path::new(DIR), SMALL, STORE, 257).unwrap();
    log.append(257, b"abc").unwrap();
    log.write().unwrap();
    close(&mut log);
    let bytes = disk.bytes(1);
    assert_eq!(
        hex(&bytes[..64]),
        "6d61732d6c6f6700010000000000000001000000000000000101000000000000001000000000000030313233343536373839616263646566000000004a7e06e8"
    );
    assert_eq!(
        hex(&bytes[64..104]),
        "24e05723b73f4b360300000001000000010100000000000000010000000000006162630000000000"
    );
    assert_eq!(
        hex(&bytes[104..136]),
        "e126cb4700000000000000000200000001010000000000000101000000000000"
    );
    assert!(bytes.len() == 4096 && bytes[136..].iter().all(|byte| *byte == 0));
}

#[test]
fn records_come_back_from_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk: &dyn Fn() -> Arc<dyn Disk> = &|| Arc::new(RealDisk);
    let (mut log, _, _) = open_on(disk, dir.path(), 0).unwrap();
    for position in 1..=40 {
        put(&mut log, position..=position, 300);
    }
    assert_eq!((log.durable(), log.written(), log.appended()), (33, 40, 40));
    close(&mut log);
    assert_eq!((log.durable(), log.unsynced_bytes()), (40, 0));
    drop(log);
    let (mut log, recovered, records) = open_on(disk, dir.path(), 0).unwrap();
    assert_eq!(records, expected(1..=40, 300));
    assert_eq!(
        (recovered.first, recovered.last, recovered.torn_bytes),
        (1, 40, 0)
    );
    put_synced(&mut log, 41..=41, 300);
    let (_, _, records) = open_on(disk, dir.path(), 39).unwrap();
    assert_eq!(records, expected(40..=41, 300));
    let report = inspect(&RealDisk, dir.path()).unwrap();
    assert!(report.is_sound() && report.segments.len() == recovered.segments);
}

#[test]
fn a_replay_that_fails_ends_opening() {
    let (disk, _, _) = three_segments();
    let mut refuse = |position: u64, _: &[u8]| match position {
        7 => Err(LogError::Failed),
        _ => Ok(()),
    };
    let opened = Log::open(Arc::new(disk), Path::new(DIR), SMALL, STORE, 0, &mut refuse);
    assert!(matches!(opened.unwrap_err(), LogError::Failed));
}

#[test]
fn positions_that_do_not_follow_are_refused() {
    let (mut log, _, _) = open(&MemDisk::default()).unwrap();
    let refused = log.append(2, b"").unwrap_err();
    assert!(matches!(
        refused,
        LogError::OutOfOrder {
            expected: 1,
            given: 2
        }
    ));
    log.append(1, b"").unwrap();
    assert!(log.append(1, b"").is_err());
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let (mut log, _, _) = open(&MemDisk::default()).unwrap();
    let refused = log.append(1, &vec![0; BODY_BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(refused, LogError::TooLarge { .. }));
    assert_eq!((log.appended(), log.unsynced_bytes()), (0, 0));
}

#[test]
fn every_flipped_byte_of_a_closed_log_is_without_effect_or_reported() {
    let (disk, mut log, records) = three_segments();
    close(&mut log);
    let mut reported = 0;
    for number in disk.segments() {
        let whole = disk.bytes(number);
        for at in 0..whole.len() {
            for flip in [0x01, 0xff] {
                let disk = disk.fork();
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                disk.put(number, bytes);
                match open(&disk) {
                    Ok((_, _, read)) => assert_eq!(read, records, "segment {number}, byte {at}"),
                    Err(error) => {
                        assert!(is_damage(&error), "segment {number}, byte {at}: {error}");
                        let report = inspect(&disk, Path::new(DIR)).unwrap();
                        assert!(!report.is_sound(), "segment {number}, byte {at}");
                        reported += 1;
                    }
                }
            }
        }
    }
    // Every byte of a header, of a record's header and of a body.
    assert_eq!(reported, 2 * (3 * 64 + 15 * 632));
}

#[test]
fn of_a_log_that_was_killed_only_the_last_sync_can_go_without_notice() {
    let (disk, _, records) = three_segments();
    for number in disk.segments() {
        let whole = disk.bytes(number);
        for at in 0..whole.len() {
            let disk = disk.fork();
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            disk.put(number, bytes);
            match open(&disk) {
                Ok((_, _, read)) => {
                    let in_last = number == 3 && (64 + 2 * 632..64 + 3 * 632).contains(&at);
                    let kept = records.len() - usize::from(in_last);
                    assert_eq!(read, records[..kept], "segment {number}, byte {at}");
                }
                Err(error) => assert!(is_damage(&error), "segment {number}, byte {at}: {error}"),
            }
        }
    }
}

#[test]
fn every_file_that_was_cut_off_is_reported() {
    let (disk, mut log, _) = three_segments();
    close(&mut log);
    for number in disk.segments() {
        let whole = disk.bytes(number);
        for bytes in 0..whole.len() {
            let disk = disk.fork();
            disk.put(number, whole[..bytes].to_vec());
            let error = open(&disk).unwrap_err();
            assert!(
                is_damage(&error),
                "segment {number} of {bytes} bytes: {error}"
            );
            assert!(!inspect(&disk, Path::new(DIR)).unwrap().is_sound());
        }
    }
}

#[test]
fn damage_before_good_records_names_the_place() {
    let (disk, _, _) = three_segments();
    let mut bytes = disk.bytes(3);
    bytes[64 + 632 + 100] ^= 1;
    disk.put(3, bytes.clone());
    let LogError::Corrupt {
        segment,
        offset,
        position,
        ..
    } = open(&disk).unwrap_err()
    else {
        panic!("it is damage");
    };
    assert_eq!((segment, offset, position), (3, 64 + 632, 14));
    assert_eq!(disk.bytes(3), bytes, "opening has changed it");
    let report = inspect(&disk, Path::new(DIR)).unwrap();
    let last = &report.segments[2];
    assert_eq!(
        (last.first, last.last, last.records),
        (Some(13), Some(13), 1)
    );
    assert_eq!(last.problem.as_ref().map(|it| it.offset), Some(64 + 632));
}

#[test]
fn a_missing_segment_is_reported_unless_nothing_is_asked_of_it() {
    let (disk, _, records) = three_segments();
    disk.remove(&MemDisk::path(2)).unwrap();
    let error = open_after(&disk.fork(), 11).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Corrupt {
                segment: 2,
                position: 7,
                ..
            }
        ),
        "{error}"
    );
    let (log, recovered, read) = open_after(&disk, 12).unwrap();
    assert_eq!(read, records[12..]);
    assert_eq!((recovered.first, log.first_position()), (13, 13));
    assert_eq!(disk.segments(), [3]);
}

#[test]
fn a_log_that_begins_late_or_ends_early_says_so() {
    let (disk, _, _) = three_segments();
    disk.remove(&MemDisk::path(1)).unwrap();
    let (_, recovered, read) = open(&disk).unwrap();
    assert_eq!((recovered.first, recovered.last, read.len()), (7, 15, 9));
    let (_, recovered, read) = open_after(&disk, 99).unwrap();
    assert_eq!((recovered.last, read.len()), (15, 0));
}

/// Opens after each way in which the sectors that were not synced may have come to the disk, and goes on with a record of
/// the same size as those that may be torn.
fn after_each_power_cut(disk: &MemDisk, synced: &Records, all: &Records) {
    let count = disk.dirty(1).len();
    assert!((3..=10).contains(&count), "{count} sectors");
    let other = vec![0xee; all[all.len() - 1].1.len()];
    for kept in 0..1_u32 << count {
        let disk = disk.fork();
        let mut sector = 0;
        disk.power_cut(&mut || {
            sector += 1;
            kept >> (sector - 1) & 1 == 1
        });
        let (mut log, recovered, read) = open(&disk).unwrap();
        assert!(
            read.len() >= synced.len() && all.starts_with(&read),
            "sectors {kept:b}"
        );
        if kept + 1 == 1 << count {
            assert_eq!((&read, recovered.torn_bytes), (all, 0));
        }
        let next = recovered.last + 1;
        log.append(next, &other).unwrap();
        log.write().unwrap();
        log.sync().unwrap();
        let (_, _, again) = open(&disk).unwrap();
        let (last, before) = again.split_last().unwrap();
        assert_eq!(
            (before, last),
            (&read[..], &(next, other.clone())),
            "sectors {kept:b}"
        );
    }
}

#[test]
fn whatever_sectors_of_a_group_were_kept_the_log_ends_before_the_first_torn_record() {
    let disk = MemDisk::default();
    let (mut log, _, _) = open(&disk).unwrap();
    put_synced(&mut log, 1..=2, 200);
    put(&mut log, 3..=14, 200);
    after_each_power_cut(&disk, &expected(1..=2, 200), &expected(1..=14, 200));
}

#[test]
fn a_group_over_a_mark_is_torn_like_any_other() {
    // In one sector, and across two.
    for bytes in [200, 912] {
        let disk = MemDisk::default();
        let (mut log, _, _) = open(&disk).unwrap();
        put_synced(&mut log, 1..=1, bytes);
        close(&mut log);
        let synced = expected(1..=1, bytes);
        put(&mut log, 2..=5, 600);
        let all = [synced.clone(), expected(2..=5, 600)].concat();
        after_each_power_cut(&disk, &synced, &all);
    }
}

#[test]
fn a_segment_whose_name_was_not_synced_is_durable_once_opened() {
    let disk = MemDisk::default();
    let (mut log, _, _) = open(&disk).unwrap();
    put_synced(&mut log, 1..=6, 600);
    log.append(7, &body(7, 600)).unwrap();
    disk.fail("sync_dir");
    log.write().unwrap_err();
    drop(log);
    let (mut log, _, _) = open(&disk).unwrap();
    put_synced(&mut log, 7..=7, 600);
    assert_eq!(disk.segments(), [1, 2]);
    disk.power_cut(&mut || false);
    let (_, _, records) = open(&disk).unwrap();
    assert_eq!(records, expected(1..=7, 600));
}

#[test]
fn what_was_written_when_the_process_was_killed_is_durable_once_opened() {
    let disk = MemDisk::default();
    let (mut log, _, _) = open(&disk).unwrap();
    put_synced(&mut log, 1..=2, 100);
    put(&mut log, 3..=5, 100);
    // The failed sync makes the system take what is not on disk for clean.
    disk.fail("sync");
    log.sync().unwrap_err();
    drop(log);
    let (log, _, _) = open(&disk).unwrap();
    assert_eq!(log.durable(), 5);
    disk.power_cut(&mut || false);
    let (_, _, records) = open(&disk).unwrap();
    assert_eq!(records, expected(1..=5, 100));
}

#[test]
fn a_record_in_a_body_proves_nothing() {
    let (disk, other) = (MemDisk::default(), MemDisk::default());
    let mut log = Log::create(Arc::new(other.clone()), Path::new(DIR), SMALL, [7; 16], 1).unwrap();
    put_synced(&mut log, 1..=9, 10);
    let foreign = other.bytes(1)[64..1000].to_vec();
    let (mut log, _, _) = open(&disk).unwrap();
    log.append(1, &foreign).unwrap();
    log.write().unwrap();
    let mut bytes = disk.bytes(1);
    bytes[64] ^= 1;
    disk.put(1, bytes);
    let (_, recovered, records) = open(&disk).unwrap();
    assert_eq!((recovered.last, records.len()), (0, 0));
    assert!(recovered.torn_bytes > 400);
}

#[test]
fn segments_grow_and_a_large_record_gets_one_that_fits() {
    let disk = MemDisk::default();
    let options = LogOptions {
        segment_bytes: 4 * SEGMENT_BYTES_FIRST,
    };
    let opened = Log::open::<LogError>(
        Arc::new(disk.clone()),
        Path::new(DIR),
        options,
        STORE,
        0,
        &mut |_, _| Ok(()),
    );
    let (mut log, _) = opened.unwrap();
    let mut sizes = Vec::new();
    for (position, bytes) in [(1, 600), (2, 600), (3, 1700), (4, 3000), (5, 5000), (6, 10)] {
        put_synced(&mut log, position..=position, bytes * 1024);
        sizes.push(log.segments.last().unwrap().bytes / 1024);
    }
    assert_eq!(sizes, [1024, 2048, 4096, 4096, 5004, 5004 - 908]);
    assert_eq!(
        log.bytes(),
        disk.segments()
            .iter()
            .map(|it| disk.bytes(*it).len() as u64)
            .sum::<u64>()
    );
    let (_, _, records) = open(&disk).unwrap();
    let sizes: Vec<usize> = records.iter().map(|(_, body)| body.len() / 1024).collect();
    assert_eq!(sizes, [600, 600, 1700, 3000, 5000, 10]);
}

#[test]
fn a_segment_that_was_made_ahead_is_taken() {
    let disk = MemDisk::default();
    let (mut log, _, _) = open(&disk).unwrap();
    let maker = log.spare_maker();
    assert!(!maker.is_ready());
    maker.prepare().unwrap();
    assert!(maker.is_ready());
    let files = disk.state().files.len();
    put_synced(&mut log, 1..=6, 600);
    put_synced(&mut log, 7..=7, 600);
    assert!(!maker.is_ready());
    assert_eq!(disk.state().files.len(), files, "another file was made");
    // One that is too small for a record is made larger.
    maker.prepare().unwrap();
    put_synced(&mut log, 8..=8, 9000);
    assert_eq!(disk.state().files.len(), files + 1);
    maker.prepare().unwrap();
    let (_, _, records) = open(&disk).unwrap();
    assert_eq!(records.len(), 8);
    assert!(
        !disk
            .names(Path::new(DIR))
            .unwrap()
            .contains(&"spare".to_owned())
    );
}

#[test]
fn a_segment_that_can_not_be_made_loses_nothing() {
    for fault in ["create", "write", "sync", "rename", "sync_dir"] {
        let disk = MemDisk::default();
        let (mut log, _, _) = open(&disk).unwrap();
        put_synced(&mut log, 1..=6, 600);
        log.append(7, &body(7, 600)).unwrap();
        disk.fail(fault);
        assert!(matches!(log.write(), Err(LogError::Io { .. })), "{fault}");
        assert!(!log.is_failed());
        log.append(8, &body(8, 600)).unwrap();
        assert_eq!((log.written(), log.durable()), (6, 6));
        log.write().unwrap();
        log.sync().unwrap();
        let (_, _, records) = open(&disk).unwrap();
        assert_eq!(records, expected(1..=8, 600), "{fault}");
    }
}

#[test]
fn a_failed_write_or_sync_is_made_up_for_in_another_segment() {
    for (fault, again) in [
        ("write", "create"),
        ("sync", "write"),
        ("sync", "sync"),
        ("sync", "sync_dir"),
    ] {
        let disk = MemDisk::default();
        let (mut log, _, _) = open(&disk).unwrap();
        put_synced(&mut log, 1..=2, 200);
        put(&mut log, 3..=3, 200);
        log.append(4, &body(4, 200)).unwrap();
        disk.fail(fault);
        log.write().and_then(|()| log.sync()).unwrap_err();
        let broken = disk.bytes(1);
        assert!(matches!(log.write(), Err(LogError::Failed)));
        assert!(matches!(log.sync(), Err(LogError::Failed)));
        assert!(matches!(log.mark(), Err(LogError::Failed)));
        log.append(5, &body(5, 200)).unwrap();
        disk.fail(again);
        log.revive().unwrap_err();
        assert!(log.is_failed() && log.durable() == 2);
        log.revive().unwrap();
        assert_eq!(
            (log.durable(), log.written(), log.unsynced_bytes()),
            (5, 5, 0)
        );
        assert_eq!(disk.segments(), [1, 2]);
        put_synced(&mut log, 6..=6, 200);
        assert_eq!(disk.bytes(1), broken, "the old segment was written again");
        disk.power_cut(&mut || false);
        let (_, _, records) = open(&disk).unwrap();
        assert_eq!(records, expected(1..=6, 200), "{fault}, {again}");
    }
}

/// A log with records 1 to 5, whose second segment begins at 3, while the first still holds 3 and 4: a sync failed.
fn with_leftovers() -> (MemDisk, Records) {
    let disk = MemDisk::default();
    let (mut log, _, _) = open(&disk).unwrap();
    put_synced(&mut log, 1..=2, 200);
    put(&mut log, 3..=4, 200);
    disk.fail("sync");
    log.sync().unwrap_err();
    log.revive().unwrap();
    put_synced(&mut log, 5..=5, 200);
    disk.power_cut(&mut || true);
    let (_, recovered, records) = open(&disk).unwrap();
    assert_eq!((recovered.last, recovered.segments), (5, 2));
    (disk, records)
}

#[test]
fn records_of_a_failed_segment_do_not_come_back() {
    let (disk, all) = with_leftovers();
    assert_eq!(all, expected(1..=5, 200));
    for position in 1..=5 {
        for changes in 0..30 {
            let disk = disk.fork();
            disk.state().changes_left = Some(changes);
            let is_done = cut(&disk, Path::new(DIR), position).is_ok();
            disk.power_cut(&mut || true);
            let (_, _, records) = open(&disk).unwrap();
            let is_cut = records.len() as u64 == position - 1;
            assert!(
                all.starts_with(&records) && (is_cut || !is_done),
                "cut at {position}, {changes} changes"
            );
        }
    }
}

#[test]
fn a_log_that_is_revived_never_lacks_what_was_written_before() {
    for changes in 0..30 {
        let disk = MemDisk::default();
        let (mut log, _, _) = open(&disk).unwrap();
        put_synced(&mut log, 1..=2, 200);
        put(&mut log, 3..=4, 200);
        disk.fail("sync");
        log.sync().unwrap_err();
        disk.state().changes_left = Some(changes);
        let is_done = log.revive().is_ok();
        // The process is killed there: what it wrote before is still in the first segment.
        disk.state().changes_left = None;
        let (_, _, records) = open(&disk).unwrap();
        assert_eq!(records, expected(1..=4, 200), "after {changes} changes");
        if is_done {
            return;
        }
    }
    panic!("it is never done");
}

#[test]
fn release_removes_whole_segments_only() {
    let (disk, mut log, records) = three_segments();
    assert_eq!(log.release(5).unwrap(), 0);
    assert_eq!((log.release(6).unwrap(), log.first_position()), (4096, 7));
    assert_eq!(disk.segments(), [2, 3]);
    log.release(99).unwrap();
    assert_eq!((disk.segments(), log.bytes()), (vec![3], 4096));
    let (_, recovered, read) = open_after(&disk, 12).unwrap();
    assert_eq!((recovered.first, read), (13, records[12..].to_vec()));
}

#[test]
fn released_segments_that_a_power_cut_brings_back_do_no_harm() {
    let (disk, mut log, records) = three_segments();
    log.release(12).unwrap();
    for kept in 0..4 {
        let disk = disk.fork();
        let mut name = 0;
        disk.power_cut(&mut || {
            name += 1;
            kept >> (name - 1) & 1 == 1
        });
        let (_, _, read) = open_after(&disk, 12).unwrap();
        assert_eq!(read, records[12..], "{kept:b}");
    }
}

#[test]
fn a_segment_of_another_store_is_refused() {
    let (disk, _, _) = three_segments();
    let opened = Log::open::<LogError>(
        Arc::new(disk),
        Path::new(DIR),
        SMALL,
        [1; 16],
        0,
        &mut |_, _| Ok(()),
    );
    assert!(matches!(
        opened.unwrap_err(),
        LogError::OtherStore { segment: 1 }
    ));
}

#[test]
fn a_newer_format_is_refused() {
    let (disk, _, _) = three_segments();
    let mut bytes = disk.bytes(2);
    bytes[8] = 2;
    let check = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&check.to_le_bytes());
    disk.put(2, bytes);
    let error = open(&disk).unwrap_err();
    assert!(matches!(
        error,
        LogError::NewerFormat {
            segment: 2,
            found: 2,
            known: 1
        }
    ));
    assert!(!inspect(&disk, Path::new(DIR)).unwrap().is_sound());
}

#[test]
fn a_new_log_takes_the_place_of_another() {
    let (disk, _, _) = three_segments();
    for kept in [false, true] {
        let disk = disk.fork();
        disk.state().changes_left = Some(7);
        let made = Log::create(Arc::new(disk.clone()), Path::new(DIR), SMALL, STORE, 1);
        assert!(made.is_err());
        disk.power_cut(&mut || kept);
        // Up to then one of the two is there.
        let (_, recovered, _) = open(&disk).unwrap();
        assert!([0, 15].contains(&recovered.last));
        let mut log =
            Log::create(Arc::new(disk.clone()), Path::new(DIR), SMALL, STORE, 100).unwrap();
        put_synced(&mut log, 100..=101, 20);
        let (_, recovered, read) = open_after(&disk, 99).unwrap();
        assert_eq!((recovered.first, recovered.segments), (100, 1));
        assert_eq!(read, expected(100..=101, 20));
    }
}

#[test]
fn inspect_tells_a_torn_end_from_a_mark() {
    let (disk, mut log, _) = three_segments();
    put(&mut log, 16..=17, 600);
    let mut bytes = disk.bytes(3);
    bytes[64 + 3 * 632 + 40] ^= 1;
    disk.put(3, bytes);
    let report = inspect(&disk, Path::new(DIR)).unwrap();
    assert!(report.is_sound());
    let newest = &report.segments[2];
    assert_eq!(
        (newest.last, newest.torn_bytes, newest.is_marked),
        (Some(15), 2 * 632, false)
    );
    let (mut log, recovered, _) = open(&disk).unwrap();
    assert_eq!((recovered.last, recovered.torn_bytes), (15, 2 * 632));
    close(&mut log);
    let report = inspect(&disk, Path::new(DIR)).unwrap();
    let newest = &report.segments[2];
    assert_eq!(
        (newest.used_bytes, newest.torn_bytes, newest.is_marked),
        (64 + 3 * 632, 0, true)
    );
    assert_eq!(report.segments[0].records, 6);
}

#[test]
fn a_cut_drops_from_a_position_on() {
    let (disk, _, records) = three_segments();
    for position in 1..=16 {
        let disk = disk.fork();
        let dropped = cut(&disk, Path::new(DIR), position).unwrap();
        assert_eq!(
            (dropped.from, dropped.to),
            (position, (position <= 15).then_some(15))
        );
        let (mut log, recovered, read) = open(&disk).unwrap();
        assert_eq!(
            (read.len(), recovered.torn_bytes),
            (position as usize - 1, 0)
        );
        assert!(records.starts_with(&read));
        put_synced(&mut log, position..=position, 5);
        let (_, recovered, _) = open(&disk).unwrap();
        assert_eq!(recovered.last, position);
    }
    let refused = cut(&disk, Path::new(DIR), 17).unwrap_err();
    assert!(matches!(
        refused,
        LogError::CutOutside {
            position: 17,
            first: 13,
            end: 16
        }
    ));
    assert!(cut(&disk, Path::new(DIR), 0).is_err());
}

#[test]
fn a_cut_makes_a_damaged_log_whole() {
    for at in [64 + 632 + 100, 5] {
        let (disk, _, records) = three_segments();
        let mut bytes = disk.bytes(2);
        bytes[at] ^= 1;
        disk.put(2, bytes);
        let LogError::Corrupt { position, .. } = open(&disk).unwrap_err() else {
            panic!("it is damage");
        };
        assert!(cut(&disk, Path::new(DIR), position + 1).is_err());
        let dropped = cut(&disk, Path::new(DIR), position).unwrap();
        assert_eq!(dropped.to, Some(15));
        let (_, recovered, read) = open(&disk).unwrap();
        assert_eq!(
            (recovered.last, &read[..]),
            (position - 1, &records[..position as usize - 1])
        );
    }
}

#[test]
fn a_crash_in_a_cut_leaves_a_log_that_can_be_cut_again() {
    let (disk, _, records) = three_segments();
    for changes in 0..20 {
        for kept in [false, true] {
            let disk = disk.fork();
            disk.state().changes_left = Some(changes);
            let _ = cut(&disk, Path::new(DIR), 4);
            disk.power_cut(&mut || kept);
            let (_, _, read) = open(&disk.fork()).unwrap();
            assert!(read.len() >= 3 && records.starts_with(&read));
            cut(&disk, Path::new(DIR), 4).unwrap();
            let (_, _, read) = open(&disk).unwrap();
            assert_eq!(read, records[..3]);
        }
    }
}

#[test]
fn errors_show_no_body() {
    let (mut log, _, _) = open(&MemDisk::default()).unwrap();
    log.append(1, b"ssssecret").unwrap();
    assert!(!format!("{log:?}").contains("115, 115"));
}

/// What is done to a log, step by step.
#[derive(Clone, Copy, Debug)]
enum Step {
    Append(u16),
    Write,
    Sync,
    Mark,
    Prepare,
    Release,
    Fail(&'static str),
    /// All changes fail after so many, until the power is cut.
    StopAfter(u8),
    Kill,
    PowerCut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop::sample::select(vec![
        "write", "sync", "create", "rename", "sync_dir", "remove",
    ]);
    prop_oneof![
        12 => (0..1500_u16).prop_map(Step::Append),
        8 => Just(Step::Write),
        6 => Just(Step::Sync),
        3 => Just(Step::Mark),
        1 => Just(Step::Prepare),
        1 => Just(Step::Release),
        2 => fault.prop_map(Step::Fail),
        1 => (0..12_u8).prop_map(Step::StopAfter),
        1 => Just(Step::Kill),
        3 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

/// A log, and all that it was given.
struct Model {
    disk: MemDisk,
    log: Log,
    bodies: BTreeMap<u64, Vec<u8>>,
    /// Positions up to here are not asked for again.
    after: u64,
    serial: u8,
}

impl Model {
    fn new() -> Self {
        let disk = MemDisk::default();
        let (log, _, _) = open(&disk).unwrap();
        Self {
            disk,
            log,
            bodies: BTreeMap::new(),
            after: 0,
            serial: 0,
        }
    }

    fn take(&mut self, step: Step) {
        // What fails here fails because the disk was told to; what counts is what can be read afterwards.
        let _ = match step {
            Step::Append(bytes) => {
                let position = self.log.appended() + 1;
                self.serial = self.serial.wrapping_add(1).max(1);
                let body = vec![self.serial; bytes.into()];
                self.log.append(position, &body).unwrap();
                self.bodies.insert(position, body);
                Ok(())
            }
            Step::Write => self.revived().and_then(|()| self.log.write()),
            Step::Sync => self.revived().and_then(|()| self.log.sync()),
            Step::Mark => self.log.mark(),
            Step::Prepare => self.log.spare_maker().prepare(),
            Step::Release => {
                self.after = self.log.durable();
                self.log.release(self.after).map(|_| ())
            }
            Step::Fail(fault) => {
                self.disk.fail(fault);
                Ok(())
            }
            Step::StopAfter(changes) => {
                self.disk.state().changes_left = Some(changes.into());
                Ok(())
            }
            Step::Kill => {
                let mut state = self.disk.state();
                (state.fail, state.changes_left) = (None, None);
                drop(state);
                self.reopen();
                Ok(())
            }
            Step::PowerCut(seed) => {
                let mut state = seed | 1;
                self.disk.power_cut(&mut || {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state & 1 == 1
                });
                self.reopen();
                Ok(())
            }
        };
    }

    fn revived(&mut self) -> Result<(), LogError> {
        self.log.revive()
    }

    fn reopen(&mut self) {
        let durable = self.log.durable();
        let (log, recovered, records) = open_after(&self.disk, self.after).unwrap();
        assert!(recovered.last >= durable, "{} of {durable}", recovered.last);
        assert!(recovered.first <= self.after + 1);
        let mut position = self.after;
        for (given, body) in records {
            position += 1;
            assert_eq!((given, Some(&body)), (position, self.bodies.get(&position)));
        }
        assert_eq!(position, recovered.last);
        self.bodies.split_off(&(recovered.last + 1));
        self.log = log;
        let report = inspect(&self.disk, Path::new(DIR)).unwrap();
        let newest = report.segments.last().unwrap();
        assert!(
            newest.problem.is_none() && newest.torn_bytes == 0,
            "{newest:?}"
        );
    }
}

/// What is done to the bytes of a segment.
#[derive(Clone, Debug)]
enum Harm {
    Set(usize, Vec<u8>),
    Copy(usize, usize, usize),
    Size(usize),
    Header(u64, u64, u64),
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = 0..4200_usize;
    prop_oneof![
        (at.clone(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Harm::Set(at, bytes)),
        (at.clone(), at.clone(), 1..800_usize).prop_map(|(from, to, bytes)| Harm::Copy(
            from & !7,
            to & !7,
            bytes
        )),
        at.prop_map(Harm::Size),
        (0..5_u64, any::<u64>(), any::<u64>())
            .prop_map(|(number, first, bytes)| Harm::Header(number, first, bytes)),
    ]
}

fn do_harm(bytes: &mut Vec<u8>, harm: Harm) {
    match harm {
        Harm::Set(at, with) => {
            for (old, new) in bytes.iter_mut().skip(at).zip(with) {
                *old = new;
            }
        }
        Harm::Copy(from, to, count) => {
            let copy: Vec<u8> = bytes.iter().skip(from).take(count).copied().collect();
            do_harm(bytes, Harm::Set(to, copy));
        }
        Harm::Size(size) => bytes.resize(size, 0),
        // One that its check agrees with.
        Harm::Header(number, first, size) => {
            let header = Segment {
                number,
                first,
                bytes: size,
                store_id: STORE,
            };
            do_harm(bytes, Harm::Set(0, header.encode().to_vec()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_durable_is_lost_and_nothing_stale_comes_back(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model::new();
        for step in steps {
            model.take(step);
        }
        model.take(Step::PowerCut(1));
    }

    #[test]
    fn no_bytes_panic(
        harms in prop::collection::vec((1..=3_u64, harm()), 1..5),
        position in 0..20_u64,
        after in 0..20_u64,
    ) {
        let (disk, _, records) = three_segments();
        for (number, harm) in harms {
            let mut bytes = disk.bytes(number);
            do_harm(&mut bytes, harm);
            disk.put(number, bytes);
        }
        let report = inspect(&disk, Path::new(DIR)).unwrap();
        prop_assert_eq!(report.segments.len(), 3);
        if let Ok((_, _, read)) = open_after(&disk.fork(), after) {
            let from = (after as usize).min(records.len());
            prop_assert!(read.is_empty() || read[0].0 > after + 1 || records[from..].starts_with(&read));
        }
        let _ = cut(&disk, Path::new(DIR), position);
        let _ = open(&disk);
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        let disk = MemDisk::default();
        disk.put(1, bytes);
        prop_assert!(is_damage(&open(&disk).unwrap_err()));
        prop_assert!(!inspect(&disk, Path::new(DIR)).unwrap().is_sound());
        prop_assert!(cut(&disk, Path::new(DIR), 1).is_err());
    }
}
