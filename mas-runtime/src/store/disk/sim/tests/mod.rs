//! What a simulated disk keeps, loses and refuses.

mod random;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SimDisk;
use super::contents::SECTOR_BYTES;
use crate::store::disk::{self, Disk, DiskFile};

/// Enough that every outcome which a test names is among them.
const SEEDS: u64 = 200;

const DIR: &str = "/dir";

fn empty_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.make_dir(Path::new(DIR)).unwrap();
    disk
}

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn write_new(disk: &SimDisk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create(&path(name)).unwrap();
    file.write_at(0, bytes).unwrap();
    file
}

/// A disk with one file, all of it durable, and that file.
fn with_file(name: &str, bytes: &[u8]) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = empty_disk();
    let file = write_new(&disk, name, bytes);
    file.sync().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    (disk, file)
}

fn seen(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    match disk.read_file(&path(name)) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            None
        }
    }
}

/// What a file may hold after a power cut, by all seeds.
fn outcomes(disk: &SimDisk, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..SEEDS)
        .map(|seed| seen(&disk.after_crash(seed), name))
        .collect()
}

fn only(bytes: &[u8]) -> BTreeSet<Option<Vec<u8>>> {
    BTreeSet::from([Some(bytes.to_vec())])
}

#[test]
fn what_was_synced_survives_every_cut() {
    let bytes: Vec<u8> = (0..5000_u32).map(|at| at as u8).collect();
    let (disk, file) = with_file("a", &bytes);
    assert_eq!(outcomes(&disk, "a"), only(&bytes));
    file.set_size(700).unwrap();
    file.write_at(690, &[1; 20]).unwrap();
    file.sync().unwrap();
    let mut cut = bytes[..690].to_vec();
    cut.extend([1; 20]);
    assert_eq!(outcomes(&disk, "a"), only(&cut));
    // What comes later, elsewhere, does not touch it.
    write_new(&disk, "b", b"b");
    assert_eq!(outcomes(&disk, "a"), only(&cut));
}

#[test]
fn an_unsynced_write_is_kept_lost_or_torn_at_sectors() {
    let (disk, file) = with_file("a", &[1; 4096]);
    file.write_at(100, &[2; 3000]).unwrap();
    let (mut kept, mut lost, mut torn, mut first) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let left = seen(&disk.after_crash(seed), "a").unwrap();
        assert_eq!(left.len(), 4096);
        let (before, rest) = left.split_at(100);
        let (written, after) = rest.split_at(3000);
        assert!(before.iter().chain(after).all(|byte| *byte == 1));
        let mut sectors = vec![written[0]];
        for (at, pair) in (101..).zip(written.windows(2)) {
            if at % SECTOR_BYTES == 0 {
                sectors.push(pair[1]);
            } else {
                assert_eq!(pair[0], pair[1], "torn within a sector, at {at}");
            }
        }
        kept += usize::from(sectors.iter().all(|sector| *sector == 2));
        lost += usize::from(sectors.iter().all(|sector| *sector == 1));
        torn += usize::from(sectors.is_sorted() && sectors[0] == 1 && sectors[6] == 2);
        first += usize::from(!sectors.is_sorted());
    }
    assert!(kept > 10 && lost > 10, "{kept} kept, {lost} lost");
    assert!(torn > 0 && first > 10, "{torn} torn, {first} out of order");
}

#[test]
fn later_writes_may_be_kept_without_earlier_ones_and_the_other_way_round() {
    let (disk, file) = with_file("a", &[0; 1024]);
    file.write_at(0, b"first").unwrap();
    file.write_at(600, b"second").unwrap();
    let found: BTreeSet<(bool, bool)> = outcomes(&disk, "a")
        .into_iter()
        .flatten()
        .map(|left| (&left[..5] == b"first", &left[600..606] == b"second"))
        .collect();
    assert_eq!(found.len(), 4);
}

#[test]
fn what_came_first_is_often_kept_without_what_came_last() {
    let (disk, file) = with_file("a", &[0; 64]);
    for at in 0..64 {
        file.write_at(at, &[1]).unwrap();
    }
    let lefts = outcomes(&disk, "a").into_iter().flatten();
    let ordered = lefts.filter(|left| left.is_sorted_by(|earlier, later| earlier >= later));
    assert!(ordered.count() > 20);
}

#[test]
fn an_extended_file_may_be_shorter_or_hold_zeros() {
    let (disk, file) = with_file("a", &[1; 10]);
    file.write_at(10, &[2; 2000]).unwrap();
    let mut sizes = BTreeSet::new();
    let mut zeros = (false, false);
    for left in outcomes(&disk, "a").into_iter().flatten() {
        sizes.insert(left.len());
        assert_eq!(left[..10], [1; 10]);
        assert!(left[10..].iter().all(|byte| [0, 2].contains(byte)));
        zeros.0 |= left.len() == 2010 && left[2009] == 0;
        zeros.1 |= left.len() > 1024 && left[1023] == 0 && left[1024] == 2;
    }
    assert!(zeros.0, "a size is kept where the bytes are lost");
    assert!(zeros.1, "a later sector is kept beyond one that is lost");
    assert_eq!(sizes, BTreeSet::from([10, 512, 1024, 1536, 2010]));
}

#[test]
fn an_unsynced_size_is_kept_or_lost() {
    let (disk, file) = with_file("a", b"abcdef");
    file.set_size(3).unwrap();
    let both = [b"abc".to_vec(), b"abcdef".to_vec()].map(Some);
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from(both));
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, "a"), only(b"abc"));
    file.set_size(5).unwrap();
    let both = [b"abc".to_vec(), b"abc\0\0".to_vec()].map(Some);
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from(both));
    assert_eq!(seen(&disk, "a").unwrap(), b"abc\0\0");
}

#[test]
fn a_new_name_may_vanish_until_its_folder_is_synced() {
    let disk = empty_disk();
    let file = write_new(&disk, "a", b"abc");
    file.sync().unwrap();
    let there = Some(b"abc".to_vec());
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([None, there]));
    disk.sync_dir(Path::new("/")).unwrap();
    assert!(outcomes(&disk, "a").contains(&None));
    disk.sync_dir(Path::new(DIR)).unwrap();
    assert_eq!(outcomes(&disk, "a"), only(b"abc"));
}

#[test]
fn a_name_says_nothing_of_what_the_file_holds() {
    let disk = empty_disk();
    let file = write_new(&disk, "a", b"abc");
    disk.sync_dir(Path::new(DIR)).unwrap();
    let all = [b"".to_vec(), b"abc".to_vec(), b"\0\0\0".to_vec()].map(Some);
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from(all));
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, "a"), only(b"abc"));
}

#[test]
fn a_removed_file_may_come_back() {
    let (disk, _file) = with_file("a", b"abc");
    disk.remove(&path("a")).unwrap();
    assert_eq!(seen(&disk, "a"), None);
    let there = Some(b"abc".to_vec());
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([None, there]));
    disk.sync_dir(Path::new(DIR)).unwrap();
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([None]));
}

#[test]
fn a_renamed_file_has_one_of_its_names() {
    let (disk, _file) = with_file("a", b"abc");
    disk.rename(&path("a"), &path("b")).unwrap();
    disk.rename(&path("b"), &path("c")).unwrap();
    let mut found = BTreeSet::new();
    for seed in 0..SEEDS {
        found.insert(disk.after_crash(seed).names(Path::new(DIR)).unwrap());
    }
    let any = ["a", "b", "c"].map(|name| vec![name.to_owned()]);
    assert_eq!(found, BTreeSet::from(any));
}

#[test]
fn a_renamed_file_is_not_lost_to_a_new_one_of_its_old_name() {
    let (disk, _file) = with_file("a", b"abc");
    disk.rename(&path("a"), &path("b")).unwrap();
    let new = write_new(&disk, "a", b"new");
    new.sync().unwrap();
    let mut found = BTreeSet::new();
    for seed in 0..SEEDS {
        let left = disk.after_crash(seed);
        found.insert((seen(&left, "a"), seen(&left, "b")));
    }
    let (old, new) = (Some(b"abc".to_vec()), Some(b"new".to_vec()));
    let all = [(old.clone(), None), (None, old.clone()), (new, old)];
    assert_eq!(found, BTreeSet::from(all));
}

#[test]
fn a_file_made_and_removed_may_be_there() {
    let disk = empty_disk();
    write_new(&disk, "a", b"abc").sync().unwrap();
    disk.remove(&path("a")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let there = Some(b"abc".to_vec());
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([None, there]));
}

#[test]
fn a_file_renamed_over_another_leaves_the_old_or_the_new_one() {
    let (disk, _old) = with_file("a", b"old");
    let new = write_new(&disk, "a.new", b"new");
    new.sync().unwrap();
    disk.rename(&path("a.new"), &path("a")).unwrap();
    let either = [b"old".to_vec(), b"new".to_vec()].map(Some);
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from(either));
    disk.sync_dir(Path::new(DIR)).unwrap();
    assert_eq!(outcomes(&disk, "a"), only(b"new"));
    assert_eq!(disk.files(), [(path("a"), 3)]);
}

#[test]
fn a_file_renamed_before_it_is_synced_may_be_empty() {
    let (disk, _old) = with_file("a", b"old");
    write_new(&disk, "a.new", b"new");
    disk.rename(&path("a.new"), &path("a")).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    let all = [b"".to_vec(), b"new".to_vec(), b"\0\0\0".to_vec()].map(Some);
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from(all));
}

#[test]
fn a_file_is_replaced_whole_wherever_the_crash_hits() {
    for number in 1.. {
        // Leftovers of an earlier try stand in the way.
        let (disk, _old) = with_file("a", b"old");
        write_new(&disk, "a.new", b"older").sync().unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        let before = disk.operations();
        disk.crash_at(before + number);
        let replaced = disk::replace(&disk, &path("a"), b"new");
        let either = BTreeSet::from([b"old".to_vec(), b"new".to_vec()].map(Some));
        if replaced.is_ok() {
            assert_eq!(number, 7, "six operations");
            assert_eq!(outcomes(&disk, "a"), only(b"new"));
            return;
        }
        assert!(outcomes(&disk, "a").is_subset(&either), "at {number}");
        assert!(either.contains(&seen(&disk.kill(), "a")));
    }
}

#[test]
fn files_and_names_are_kept_independently() {
    let (disk, a) = with_file("a", b"1");
    let b = write_new(&disk, "b", b"1");
    b.sync().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    a.write_at(0, b"2").unwrap();
    b.write_at(0, b"2").unwrap();
    disk.create(&path("c")).unwrap();
    let mut found = BTreeSet::new();
    for seed in 0..SEEDS {
        let left = disk.after_crash(seed);
        found.insert((seen(&left, "a"), seen(&left, "b"), seen(&left, "c")));
    }
    assert_eq!(found.len(), 8);
}

#[test]
fn a_cut_treats_all_files_alike_or_each_in_its_own_way() {
    let disk = empty_disk();
    for number in 0..6 {
        let file = write_new(&disk, &number.to_string(), &[0; 400]);
        file.sync().unwrap();
        for at in 0..400 {
            file.write_at(at, &[1]).unwrap();
        }
    }
    disk.sync_dir(Path::new(DIR)).unwrap();
    let (mut all_kept, mut all_lost, mut both) = (0, 0, 0);
    for seed in 0..SEEDS {
        let left = disk.after_crash(seed);
        let files = (0..6).filter_map(|number| seen(&left, &number.to_string()));
        let files: Vec<Vec<u8>> = files.collect();
        let kept = files.iter().filter(|file| **file == [1; 400]).count();
        let lost = files.iter().filter(|file| **file == [0; 400]).count();
        all_kept += usize::from(kept == 6);
        all_lost += usize::from(lost == 6);
        both += usize::from(kept > 0 && lost > 0);
    }
    let found = format!("{all_kept} kept, {all_lost} lost, {both} both");
    assert!(all_kept > 10 && all_lost > 10 && both > 10, "{found}");
}

#[test]
fn every_change_and_every_sync_is_an_operation() {
    let disk = empty_disk();
    assert_eq!(disk.operations(), 0);
    let file = disk.create(&path("a")).unwrap();
    file.write_at(0, b"abc").unwrap();
    file.set_size(2).unwrap();
    file.sync().unwrap();
    disk.rename(&path("a"), &path("b")).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    disk.remove(&path("b")).unwrap();
    assert_eq!(disk.operations(), 7);
    disk.remove(&path("b")).unwrap_err();
    assert_eq!(disk.operations(), 8);
    file.size().unwrap();
    file.read_at(0, &mut [0]).unwrap();
    disk.open(&path("b")).unwrap_err();
    disk.names(Path::new(DIR)).unwrap();
    disk.make_dir(Path::new("/other")).unwrap();
    assert_eq!(disk.operations(), 8);
}

#[test]
fn everything_fails_from_the_crash_on() {
    let (disk, file) = with_file("a", b"abc");
    let begun = disk.operations();
    disk.crash_at(begun + 2);
    file.write_at(0, b"b").unwrap();
    file.read_at(0, &mut [0]).unwrap();
    let after = path("b");
    let errors = [
        file.write_at(1, b"c").unwrap_err(),
        file.write_at(2, b"d").unwrap_err(),
        file.set_size(0).unwrap_err(),
        file.sync().unwrap_err(),
        file.size().unwrap_err(),
        file.read_at(0, &mut [0]).unwrap_err(),
        disk.create(&after).unwrap_err(),
        disk.open(&path("a")).unwrap_err(),
        disk.rename(&path("a"), &after).unwrap_err(),
        disk.remove(&path("a")).unwrap_err(),
        disk.sync_dir(Path::new(DIR)).unwrap_err(),
        disk.names(Path::new(DIR)).unwrap_err(),
        disk.make_dir(Path::new(DIR)).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Other);
        assert_eq!(error.to_string(), "the disk has crashed");
    }
    assert_eq!(disk.operations(), begun + 2);
    // The write that was hit is there in part or whole, those after it are not.
    assert_eq!(seen(&disk, "a").unwrap(), b"bcc");
    assert_eq!(seen(&disk.kill(), "a").unwrap(), b"bcc");
    let left = [b"abc", b"bbc", b"acc", b"bcc"].map(|bytes| Some(bytes.to_vec()));
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from(left));
    // What is left of it works.
    let again = disk.kill();
    assert_eq!(again.operations(), 0);
    let file = again.open(&path("a")).unwrap();
    file.write_at(0, b"xyz").unwrap();
    assert_eq!(seen(&again, "a").unwrap(), b"xyz");
    assert_eq!(seen(&disk, "a").unwrap(), b"bcc");
}

#[test]
fn a_sync_that_is_hit_may_have_synced_or_not() {
    let (disk, file) = with_file("a", b"abc");
    disk.crash_at(disk.operations() + 2);
    file.write_at(0, b"x").unwrap();
    file.sync().unwrap_err();
    let either = [b"abc", b"xbc"].map(|bytes| Some(bytes.to_vec()));
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from(either));

    let disk = empty_disk();
    disk.crash_at(2);
    disk.create(&path("a")).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap_err();
    let either = [None, Some(Vec::new())];
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from(either));
}

#[test]
fn a_killed_process_leaves_all_it_wrote_but_unsynced() {
    let (disk, file) = with_file("a", b"abc");
    file.write_at(0, b"x").unwrap();
    write_new(&disk, "b", b"b");
    let killed = disk.kill();
    assert_eq!(seen(&killed, "a").unwrap(), b"xbc");
    assert_eq!(seen(&killed, "b").unwrap(), b"b");
    let either = [b"abc", b"xbc"].map(|bytes| Some(bytes.to_vec()));
    assert_eq!(outcomes(&killed, "a"), BTreeSet::from(either));
    assert!(outcomes(&killed, "b").contains(&None));
    killed.open(&path("a")).unwrap().sync().unwrap();
    assert_eq!(outcomes(&killed, "a"), only(b"xbc"));
    assert_eq!(outcomes(&disk, "a").len(), 2);
}

#[test]
fn what_a_failed_sync_lost_is_never_durable() {
    let (disk, file) = with_file("a", b"abc");
    file.write_at(1, b"xyz").unwrap();
    disk.fail_next_sync();
    file.sync().unwrap_err();
    assert_eq!(seen(&disk, "a").unwrap(), b"axyz");
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, "a"), only(b"abc"));
    assert_eq!(seen(&disk.kill(), "a").unwrap(), b"axyz");
    assert_eq!(outcomes(&disk.kill(), "a"), only(b"abc"));
    // What is written anew is as good as ever.
    file.write_at(5, b"!").unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, "a"), only(b"abc\0\0!"));
    assert_eq!(seen(&disk, "a").unwrap(), b"axyz\0!");
}

#[test]
fn a_full_disk_refuses_what_would_take_more() {
    let (disk, file) = with_file("a", &[1; 60]);
    disk.full_at_bytes(100);
    let other = write_new(&disk, "b", &[2; 30]);
    let full = [
        file.write_at(55, &[9; 16]).unwrap_err(),
        file.write_at(u64::MAX, &[9]).unwrap_err(),
        other.set_size(41).unwrap_err(),
        other.set_size(u64::MAX).unwrap_err(),
    ];
    for error in full {
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
    assert_eq!(seen(&disk, "a").unwrap(), [1; 60]);
    assert_eq!(other.size().unwrap(), 30);
    other.set_size(40).unwrap();
    let error = disk.create(&path("c")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    // What takes no more room goes on.
    file.write_at(0, &[3; 60]).unwrap();
    file.sync().unwrap();
    // A removed file takes room as long as it is open.
    disk.remove(&path("b")).unwrap();
    disk.create(&path("c")).unwrap_err();
    drop(other);
    let new = disk.create(&path("c")).unwrap();
    new.set_size(40).unwrap();
    new.set_size(41).unwrap_err();
    disk.full_at_bytes(u64::MAX);
    new.set_size(41).unwrap();
    new.set_size(u64::MAX).unwrap_err();
}

#[test]
fn writes_fail_as_long_as_they_are_told_to() {
    let (disk, file) = with_file("a", b"abc");
    disk.fail_writes(Some(ErrorKind::PermissionDenied));
    let errors = [
        file.write_at(0, b"x").unwrap_err(),
        file.set_size(0).unwrap_err(),
        disk.create(&path("b")).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    file.sync().unwrap();
    assert_eq!(seen(&disk, "a").unwrap(), b"abc");
    assert_eq!(disk.kill().files(), disk.files());
    disk.kill().create(&path("b")).unwrap();
    disk.fail_writes(None);
    file.write_at(0, b"x").unwrap();
    assert_eq!(seen(&disk, "a").unwrap(), b"xbc");
}

#[test]
fn an_open_file_outlives_its_name() {
    let (disk, a) = with_file("a", b"abc");
    let b = write_new(&disk, "b", b"b");
    disk.rename(&path("a"), &path("b")).unwrap();
    a.write_at(0, b"x").unwrap();
    assert_eq!(seen(&disk, "b").unwrap(), b"xbc");
    b.write_at(1, b"!").unwrap();
    disk.remove(&path("b")).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    a.write_at(1, b"y").unwrap();
    a.sync().unwrap();
    assert_eq!(disk::read_whole(&*a, 9).unwrap(), b"xyc");
    assert_eq!(disk::read_whole(&*b, 9).unwrap(), b"b!");
    assert_eq!(disk.files(), []);
    let again = write_new(&disk, "a", b"new");
    assert_eq!(disk::read_whole(&*a, 9).unwrap(), b"xyc");
    assert_eq!(disk::read_whole(&*again, 9).unwrap(), b"new");
}

#[test]
fn a_flipped_bit_is_flipped_for_good() {
    let (disk, file) = with_file("a", b"abc");
    file.write_at(2, b"CD").unwrap();
    disk.flip(&path("a"), 0, 1).unwrap();
    disk.flip(&path("a"), 3, 5).unwrap();
    assert_eq!(seen(&disk, "a").unwrap(), b"cbCd");
    let left = [b"cbc".to_vec(), b"cbc\0".to_vec(), b"cbCd".to_vec()].map(Some);
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from(left));
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, "a"), only(b"cbCd"));
    let beyond = disk.flip(&path("a"), 4, 0).unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::UnexpectedEof);
    let missing = disk.flip(&path("b"), 0, 0).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn a_file_that_the_test_writes_is_durable() {
    let (disk, file) = with_file("a", b"abc");
    file.write_at(0, b"unsynced").unwrap();
    let operations = disk.operations();
    disk.write_file(&path("a"), b"by hand").unwrap();
    disk.write_file(&path("b"), b"new").unwrap();
    assert_eq!(outcomes(&disk, "a"), only(b"by hand"));
    assert_eq!(outcomes(&disk, "b"), only(b"new"));
    assert_eq!(disk::read_whole(&*file, 9).unwrap(), b"by hand");
    assert_eq!(disk.files(), [(path("a"), 7), (path("b"), 3)]);
    assert_eq!(disk.operations(), operations);
    let nowhere = disk.write_file(Path::new("/none/a"), b"").unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NotFound);
}

#[test]
fn folders_have_names_and_stand_in_the_way_of_files() {
    let (disk, _file) = with_file("b", b"");
    let dir = Path::new(DIR);
    disk.make_dir(&path("c/d")).unwrap();
    disk.make_dir(&path("a")).unwrap();
    disk.make_dir(&path("a")).unwrap();
    assert_eq!(disk.names(dir).unwrap(), ["a", "b", "c"]);
    assert_eq!(disk.names(Path::new("/")).unwrap(), ["dir"]);
    assert_eq!(disk.after_crash(1).names(&path("c")).unwrap(), ["d"]);
    let kind = |result: std::io::Result<()>| result.unwrap_err().kind();
    assert_eq!(
        kind(disk.make_dir(&path("b/c"))),
        ErrorKind::AlreadyExists,
        "a file is no folder"
    );
    assert_eq!(
        disk.names(&path("none")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(kind(disk.sync_dir(&path("none"))), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove(&path("a"))), ErrorKind::IsADirectory);
    assert_eq!(
        kind(disk.rename(&path("b"), &path("a"))),
        ErrorKind::IsADirectory
    );
    assert_eq!(
        kind(disk.rename(&path("b"), &path("a/b"))),
        ErrorKind::CrossesDevices
    );
    let create = |path: &Path| disk.create(path).unwrap_err().kind();
    assert_eq!(create(&path("a")), ErrorKind::AlreadyExists);
    assert_eq!(create(&path("none/a")), ErrorKind::NotFound);
    assert_eq!(create(Path::new("/")), ErrorKind::AlreadyExists);
    assert_eq!(create(Path::new("..")), ErrorKind::InvalidInput);
}

#[test]
fn one_seed_gives_one_disk() {
    let (disk, file) = with_file("a", &[1; 3000]);
    file.write_at(700, &[2; 4000]).unwrap();
    write_new(&disk, "b", &[3; 2000]);
    let all = |disk: &SimDisk| {
        let files = disk.files().into_iter();
        let read = |(path, _): (PathBuf, u64)| (disk.read_file(&path).unwrap(), path);
        files.map(read).collect::<Vec<_>>()
    };
    let mut different = BTreeSet::new();
    for seed in 0..SEEDS {
        let left = all(&disk.after_crash(seed));
        assert_eq!(left, all(&disk.after_crash(seed)));
        // What is left is durable.
        assert_eq!(left, all(&disk.after_crash(seed).after_crash(seed + 1)));
        different.insert(left);
    }
    assert!(different.len() > 50);
}

#[test]
fn debug_shows_sizes_only() {
    let (disk, file) = with_file("secret-name", b"secret");
    assert_eq!(
        format!("{disk:?}"),
        "SimDisk { files: 1, bytes: 6, operations: 4 }"
    );
    assert_eq!(format!("{file:?}"), "SimFile { size: Some(6), .. }");
}
