//! The key file of a store: made, read and rotated.
//!
//! Whoever can read the file can read the store, so it is held to what its owner would say of it:
//!
//! | must | why |
//! |---|---|
//! | be a regular file, not a symbolic link | what is checked is what is read; a link in the folders above is followed |
//! | belong to the user of this process, or to root | whoever owns it can change it |
//! | have no permission for group or others | on Unix; mode 0600 or 0400 |
//! | be small | nothing else is a key file |
//!
//! Owner and mode are Unix's. **On other systems they are not checked**: there the folder of the file must keep others out.

#[cfg(test)]
mod tests;

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::{FileFault, KeyError};
use super::ring::{HEADER, KeyId, Keys, LINE_BYTES_MAX, Secret, encode_line};
use crate::model::limits::{STORE_KEY_FILE_BYTES_MAX, STORE_KEYS_MAX};

/// The key file of a sealed store: a text with one line a key, of which the last seals.
///
/// ```text
/// mas-store-key 1
/// 1 <64 hexadecimal digits>
/// 2 <64 hexadecimal digits>
/// ```
///
/// A running store keeps the keys that it opened with; it takes a new one when it opens next.
#[derive(Debug)]
#[non_exhaustive]
pub struct KeyFile;

impl KeyFile {
    /// Reads a key file, after strict checks: a regular file, no symbolic link, owned by the user of this process or by root,
    /// closed to all others, and every line as it must be. (On systems other than Unix, owner and mode are not checked.)
    ///
    /// # Errors
    /// [`KeyError::File`] and [`KeyError::Line`] say what is wrong with it, [`KeyError::Io`] that the system refused.
    pub fn read(path: impl AsRef<Path>) -> Result<Keys, KeyError> {
        let path = path.as_ref();
        let (file, _) = open(path)?;
        let text = read_text(path, &file)?;
        let keys = Keys::decode(path, &text)?;
        // What is sealed outlives a power cut, so its key must. Whoever wrote the file may not have seen to that. A file
        // system that can't be written to has nothing to bring to disk, and says so by an error.
        let _ = file.sync_all();
        let _ = sync_folder(path);
        Ok(keys)
    }

    /// Makes a key file with one fresh key, readable by its owner only, and brings it to disk. Gives the key's id.
    ///
    /// # Errors
    /// [`FileFault::Exists`] when there is one already, [`KeyError::Entropy`] and [`KeyError::Io`] when the system refuses.
    pub fn create(path: impl AsRef<Path>) -> Result<KeyId, KeyError> {
        let path = path.as_ref();
        let mut file = create_private(path, path, FileFault::Exists)?;
        let mut text = Zeroizing::new(Vec::with_capacity(HEADER.len() + LINE_BYTES_MAX));
        text.extend_from_slice(HEADER);
        let mut write = || {
            encode_line(KeyId::FIRST, &Secret::random()?, &mut text);
            write_synced(path, &mut file, &text)?;
            sync_folder(path).map_err(failed("sync the folder of", path))
        };
        if let Err(error) = write() {
            // Half a key file is worth nothing, and would be in the way.
            let _ = fs::remove_file(path);
            return Err(error);
        }
        Ok(KeyId::FIRST)
    }

    /// Adds a fresh key, which seals from then on, and brings the file to disk. At every moment the file is the old one or
    /// the new one. Gives the key's id.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), since nothing is added to a file with a fault; [`FileFault::TooManyKeys`] and
    /// [`FileFault::IdsUsedUp`] when no key can be added; [`FileFault::Busy`] when another rotation is under way;
    /// [`KeyError::Entropy`] and [`KeyError::Io`] when the system refuses.
    pub fn rotate(path: impl AsRef<Path>) -> Result<KeyId, KeyError> {
        let path = path.as_ref();
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        // Made before the old file is read: while it is there no other rotation can add a key that this one would drop.
        let file = create_private(&beside, path, FileFault::Busy)?;
        let rotated = replace(path, &beside, file);
        if rotated.is_err() {
            let _ = fs::remove_file(&beside);
        }
        let id = rotated?;
        sync_folder(path).map_err(failed("sync the folder of", path))?;
        Ok(id)
    }
}

/// Writes the file with one more key into `new`, and gives it the name of the old one.
fn replace(path: &Path, beside: &Path, mut new: File) -> Result<KeyId, KeyError> {
    let (old, about) = open(path)?;
    let mut text = read_text(path, &old)?;
    let keys = Keys::decode(path, &text)?;
    if keys.ids().count() == STORE_KEYS_MAX {
        return Err(refused(path, FileFault::TooManyKeys));
    }
    let id = keys.newest().next();
    let id = id.ok_or_else(|| refused(path, FileFault::IdsUsedUp))?;
    encode_line(id, &Secret::random()?, &mut text);
    write_synced(path, &mut new, &text)?;
    let mode = new.set_permissions(about.permissions());
    mode.map_err(failed("set the mode of", path))?;
    fs::rename(beside, path).map_err(failed("replace", path))?;
    Ok(id)
}

/// Opens a key file that has passed every check but that of its text.
fn open(path: &Path) -> Result<(File, Metadata), KeyError> {
    let named = fs::symlink_metadata(path).map_err(failed("open", path))?;
    // Only for the better text: the link could be put there after this look, and `open_options` does not follow it either.
    if named.is_symlink() {
        return Err(refused(path, FileFault::SymbolicLink));
    }
    let file = open_options().open(path).map_err(failed("open", path))?;
    let about = file.metadata().map_err(failed("look at", path))?;
    match fault_of(&about) {
        Some(fault) => Err(refused(path, fault)),
        None => Ok((file, about)),
    }
}

/// Reads a file only; follows no link, and does not wait for the other end of a pipe.
fn open_options() -> OpenOptions {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits().cast_signed());
    }
    options
}

fn fault_of(about: &Metadata) -> Option<FileFault> {
    if !about.is_file() {
        return Some(FileFault::NotRegular);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let user = rustix::process::geteuid().as_raw();
        if let Some(fault) = fault_of_owner(about.uid(), about.mode(), user) {
            return Some(fault);
        }
    }
    let max = STORE_KEY_FILE_BYTES_MAX;
    (about.len() > max as u64).then_some(FileFault::TooLarge { max })
}

#[cfg(unix)]
fn fault_of_owner(owner: u32, mode: u32, user: u32) -> Option<FileFault> {
    const ROOT: u32 = 0;
    const OTHERS: u32 = 0o077;
    if owner != user && owner != ROOT {
        return Some(FileFault::Owner { owner, user });
    }
    let mode = mode & 0o7777;
    (mode & OTHERS != 0).then_some(FileFault::Shared { mode })
}

/// All of the file, in a buffer that has room for one more key and never moves, so that no copy stays behind in memory.
fn read_text(path: &Path, file: &File) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let max = STORE_KEY_FILE_BYTES_MAX;
    let mut text = Zeroizing::new(vec![0; max + LINE_BYTES_MAX]);
    let (mut reader, mut size) = (file, 0);
    while size <= max {
        match reader.read(&mut text[size..]) {
            Ok(0) => {
                text.truncate(size);
                return Ok(text);
            }
            Ok(more) => size += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read", path)(error)),
        }
    }
    Err(refused(path, FileFault::TooLarge { max }))
}

/// Makes a file that only its owner can use. `taken` is what it means when there is one.
fn create_private(new: &Path, path: &Path, taken: FileFault) -> Result<File, KeyError> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(new).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => refused(path, taken),
        _ => failed("make", path)(error),
    })
}

fn write_synced(path: &Path, file: &mut File, text: &[u8]) -> Result<(), KeyError> {
    let written = file.write_all(text).and_then(|()| file.sync_all());
    written.map_err(failed("write", path))
}

/// Brings the name of a file to disk. Only Unix can, or must.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn refused(path: &Path, fault: FileFault) -> KeyError {
    KeyError::File {
        path: path.to_owned(),
        fault,
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    move |source| KeyError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
