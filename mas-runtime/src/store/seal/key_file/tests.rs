use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

/// A folder, and a path in it for a key file.
fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.key");
    (dir, path)
}

fn names(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn fault<T: std::fmt::Debug>(result: Result<T, KeyError>) -> FileFault {
    match result {
        Err(KeyError::File { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// The text of a key file with these ids.
fn text(ids: impl IntoIterator<Item = u32>) -> String {
    let lines = ids.into_iter().map(|id| format!("{id} {id:064x}\n"));
    format!("mas-store-key 1\n{}", lines.collect::<String>())
}

fn write(path: &Path, text: &str) {
    let mut file = create_private(path, path, FileFault::Exists).unwrap();
    write_synced(path, &mut file, text.as_bytes()).unwrap();
}

#[test]
fn a_new_file_holds_one_fresh_key() {
    let (dir, path) = place();
    assert_eq!(KeyFile::create(&path).unwrap(), KeyId::FIRST);
    assert_eq!(names(&dir), ["store.key"]);
    let keys = KeyFile::read(&path).unwrap();
    assert_eq!(keys.ids().collect::<Vec<_>>(), [KeyId::FIRST]);

    let other = dir.path().join("other.key");
    KeyFile::create(&other).unwrap();
    assert_ne!(fs::read(&path).unwrap(), fs::read(&other).unwrap());
}

#[test]
fn a_file_that_is_there_is_not_made_again() {
    let (_dir, path) = place();
    KeyFile::create(&path).unwrap();
    let before = fs::read(&path).unwrap();
    assert_eq!(fault(KeyFile::create(&path)), FileFault::Exists);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_rotation_adds_a_line_and_changes_no_other() {
    let (dir, path) = place();
    KeyFile::create(&path).unwrap();
    let first = fs::read_to_string(&path).unwrap();
    for id in [2, 3] {
        assert_eq!(KeyFile::rotate(&path).unwrap().get(), id);
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(&first));
    assert_eq!(names(&dir), ["store.key"]);
    let keys = KeyFile::read(&path).unwrap();
    assert_eq!(keys.newest().get(), 3);
    assert_eq!(keys.ids().map(KeyId::get).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_second_rotation_at_a_time_is_refused_and_harms_nothing() {
    let (dir, path) = place();
    KeyFile::create(&path).unwrap();
    let before = fs::read(&path).unwrap();
    fs::write(dir.path().join("store.key.new"), "of another rotation").unwrap();
    assert_eq!(fault(KeyFile::rotate(&path)), FileFault::Busy);
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(names(&dir), ["store.key", "store.key.new"]);
}

#[test]
fn a_file_with_a_fault_is_not_rotated() {
    let (dir, path) = place();
    write(&path, "mas-store-key 1\n1 abc\n");
    assert!(matches!(
        KeyFile::rotate(&path),
        Err(KeyError::Line { line: 2, .. })
    ));
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "mas-store-key 1\n1 abc\n"
    );
    assert_eq!(names(&dir), ["store.key"]);
}

#[test]
fn a_rotation_without_a_file_leaves_nothing_behind() {
    let (dir, path) = place();
    assert!(matches!(
        KeyFile::rotate(&path),
        Err(KeyError::Io { action: "open", .. })
    ));
    assert!(names(&dir).is_empty());
}

#[test]
fn the_largest_file_is_read_and_takes_no_more_keys() {
    let (_dir, path) = place();
    let last = u32::MAX - 1;
    write(&path, &text(last - 62..=last));
    assert_eq!(KeyFile::rotate(&path).unwrap().get(), u32::MAX);
    let full = fs::read(&path).unwrap();
    assert_eq!(full.len(), STORE_KEY_FILE_BYTES_MAX);
    assert_eq!(KeyFile::read(&path).unwrap().ids().count(), STORE_KEYS_MAX);
    assert_eq!(fault(KeyFile::rotate(&path)), FileFault::TooManyKeys);
    assert_eq!(fs::read(&path).unwrap(), full);
}

#[test]
fn one_byte_more_is_too_large() {
    let (_dir, path) = place();
    let max = STORE_KEY_FILE_BYTES_MAX;
    write(&path, &"x".repeat(max + 1));
    assert_eq!(fault(KeyFile::read(&path)), FileFault::TooLarge { max });
    // Also where it has grown since it was looked at.
    let file = File::open(&path).unwrap();
    assert_eq!(fault(read_text(&path, &file)), FileFault::TooLarge { max });
}

#[test]
fn ids_end() {
    let (_dir, path) = place();
    write(&path, &text([u32::MAX]));
    assert_eq!(fault(KeyFile::rotate(&path)), FileFault::IdsUsedUp);
}

#[test]
fn a_missing_file_is_named() {
    let (_dir, path) = place();
    let error = KeyFile::read(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("can't open the key file {}", path.display())
    );
    assert!(error.source().unwrap().to_string().contains("No such file") || cfg!(not(unix)));
}

#[test]
fn a_folder_is_no_key_file() {
    let (dir, _) = place();
    if cfg!(unix) {
        assert_eq!(fault(KeyFile::read(dir.path())), FileFault::NotRegular);
    } else {
        assert!(KeyFile::read(dir.path()).is_err());
    }
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_made_for_its_owner_only_and_stays_so() {
        let (_dir, path) = place();
        KeyFile::create(&path).unwrap();
        assert_eq!(mode_of(&path), 0o600);
        set_mode(&path, 0o400);
        KeyFile::rotate(&path).unwrap();
        assert_eq!(mode_of(&path), 0o400);
        KeyFile::read(&path).unwrap();
    }

    #[test]
    fn every_bit_that_lets_in_others_is_refused() {
        let (_dir, path) = place();
        KeyFile::create(&path).unwrap();
        for bit in 0..6 {
            let mode = 0o600 | 1 << bit;
            set_mode(&path, mode);
            assert_eq!(fault(KeyFile::read(&path)), FileFault::Shared { mode });
        }
        set_mode(&path, 0o644);
        let error = KeyFile::read(&path).unwrap_err().to_string();
        assert!(error.ends_with(
            "has mode 0644, which lets in others than its owner: set it to 0600 or 0400"
        ));
    }

    #[test]
    fn a_file_belongs_to_its_user_or_to_root() {
        let (owner, user) = (1001, 1000);
        assert_eq!(fault_of_owner(user, 0o100_600, user), None);
        assert_eq!(fault_of_owner(0, 0o100_400, user), None);
        assert_eq!(
            fault_of_owner(owner, 0o100_600, user),
            Some(FileFault::Owner { owner, user })
        );
        // Nor does root take the word of others.
        assert_eq!(
            fault_of_owner(owner, 0o100_600, 0),
            Some(FileFault::Owner { owner, user: 0 })
        );
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        let (_dir, path) = place();
        KeyFile::create(&path).unwrap();
        if chown(&path, Some(12_345), None).is_err() {
            println!("not run: only root can give a file away");
            return;
        }
        let expected = FileFault::Owner {
            owner: 12_345,
            user: 0,
        };
        assert_eq!(fault(KeyFile::read(&path)), expected);
    }

    #[test]
    fn a_link_to_a_good_file_is_refused_and_a_linked_folder_is_not() {
        let (dir, path) = place();
        KeyFile::create(&path).unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(fault(KeyFile::read(&link)), FileFault::SymbolicLink);
        assert_eq!(fault(KeyFile::rotate(&link)), FileFault::SymbolicLink);
        // Also when it has taken the file's place since it was looked at.
        assert!(open_options().open(&link).is_err());

        let folder = dir.path().join("folder");
        symlink(dir.path(), &folder).unwrap();
        KeyFile::read(folder.join("store.key")).unwrap();
    }

    #[test]
    fn a_link_to_nowhere_is_no_place_for_a_new_file() {
        let (dir, path) = place();
        symlink(dir.path().join("elsewhere"), &path).unwrap();
        assert_eq!(fault(KeyFile::create(&path)), FileFault::Exists);
        assert_eq!(names(&dir), ["store.key"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let (_dir, path) = place();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(fault(KeyFile::read(&path)), FileFault::NotRegular);
    }
}
