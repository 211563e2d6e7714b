//! Whether a store's values are sealed: what its user wants, what its directory says, and that both agree.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::open::{self, Layout, OpenError, Values};
use crate::store::disk::{self, Disk};
use crate::store::seal::{
    self, CHECK_BYTES_MAX, Check, Clean, Found, KeyError, KeyFile, Sealer, Start, Wanted,
};
use crate::store::tree::pack::StoreId;

/// Whether the values of a store are sealed on the disk.
///
/// What stays readable in a sealed store: which keys there are (ids of agents, names of journals and of secrets, numbers,
/// message ids), how large values are, and when they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encryption {
    /// They are plain. A sealed store does not open.
    #[default]
    Off,
    /// They are sealed under the newest key of this [file](crate::store::KeyFile), which is read once, when the store opens. A
    /// store whose values are plain does not open.
    ///
    /// When the file has a newer key than some values are sealed under, they are sealed anew in the background. An older key
    /// can leave the file once that is done.
    KeyFile(PathBuf),
    /// As `KeyFile`, but the values of a plain store are sealed in the background. From the start on the store opens with its
    /// key file only.
    SealExisting(PathBuf),
}

impl Encryption {
    /// Reads the key file.
    pub(super) fn wanted(&self) -> Result<Wanted, KeyError> {
        Ok(match self {
            Self::Off => Wanted::Plain,
            Self::KeyFile(path) => Wanted::Sealed(Arc::new(KeyFile::read(path)?)),
            Self::SealExisting(path) => Wanted::SealExisting(Arc::new(KeyFile::read(path)?)),
        })
    }
}

/// What protects the values of a sealed store.
#[derive(Debug)]
pub(super) struct Protection {
    pub(super) sealer: Arc<Sealer>,
    disk: Arc<dyn Disk>,
    layout: Layout,
    check: Check,
    /// Whether some values may be plain.
    is_sealing: bool,
}

impl Protection {
    /// Holds what is wanted against a directory whose format says `values`, or that has none of this engine. `None` for a
    /// plain store. Before anything can be sealed, the directory says so.
    pub(super) fn begin(
        disk: &Arc<dyn Disk>,
        layout: &Layout,
        wanted: &Wanted,
        (store, values): (StoreId, Option<Values>),
    ) -> Result<Option<Self>, OpenError> {
        let refused = |error| OpenError::key(&layout.dir)(error);
        let text = read_check(&**disk, layout)?;
        if let Wanted::Plain = wanted {
            // Also where a store was only about to be sealed: no way leads back from there by accident.
            let is_plain = matches!(values, None | Some(Values::Plain)) && text.is_none();
            return if is_plain {
                Ok(None)
            } else {
                Err(refused(KeyError::Sealed))
            };
        }
        let found = match values {
            None => Found::Empty,
            Some(Values::Plain) if text.is_none() => Found::Plain,
            Some(values) => {
                let check = decode_check(layout, store, text)?;
                match values {
                    Values::Sealed => Found::Sealed(check),
                    Values::Plain | Values::Sealing => Found::Sealing(check),
                }
            }
        };
        let keep = |text: &str| disk::replace(&**disk, &layout.check, text.as_bytes());
        let started = seal::start(found, wanted, seal::StoreId::from_bytes(store), keep);
        let (sealer, check, is_sealing) = match started.map_err(refused)? {
            Start::Plain => return Ok(None),
            Start::Sealing(sealer, check) => (sealer, check, true),
            Start::Sealed(sealer, check) => (sealer, check, false),
        };
        if values == Some(Values::Plain) {
            open::write_format(&**disk, layout, store, Values::Sealing)
                .map_err(open::unwritten(layout))?;
        }
        Ok(Some(Self {
            sealer: Arc::new(sealer),
            disk: Arc::clone(disk),
            layout: layout.clone(),
            check,
            is_sealing,
        }))
    }

    /// Whether values may be there that are not sealed under the newest key.
    pub(super) fn is_partial(&self) -> bool {
        self.is_sealing || self.check.ids().count() > 1
    }

    /// Whether values may be there that are not sealed at all.
    pub(super) const fn is_sealing(&self) -> bool {
        self.is_sealing
    }

    /// Everything is under the newest key, and nothing else is on the disk: older keys are not needed from here on.
    pub(super) fn complete(&mut self, clean: &Clean) -> io::Result<()> {
        let (disk, layout) = (&*self.disk, &self.layout);
        // What was removed must not come back with a power cut.
        disk.sync_dir(&layout.log)?;
        disk.sync_dir(&layout.packs)?;
        let check = self.check.without_old(clean);
        disk::replace(disk, &layout.check, check.encode().as_bytes())?;
        self.check = check;
        if self.is_sealing {
            let store = *self.sealer.store().as_bytes();
            open::write_format(disk, layout, store, Values::Sealed)?;
            self.is_sealing = false;
            self.sealer.refuse_plain();
        }
        Ok(())
    }
}

/// The bytes of the check, if there is one.
fn read_check(disk: &dyn Disk, layout: &Layout) -> Result<Option<Vec<u8>>, OpenError> {
    let path = &layout.check;
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(OpenError::io("open", path)(e)),
    };
    match disk::read_whole(&*file, CHECK_BYTES_MAX as u64) {
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            let reason = format!("its file `check` is too long: {e}");
            Err(OpenError::damaged(&layout.dir, reason))
        }
        read => read.map(Some).map_err(OpenError::io("read", path)),
    }
}

/// The check of a store that must have one.
fn decode_check(
    layout: &Layout,
    store: StoreId,
    text: Option<Vec<u8>>,
) -> Result<Check, OpenError> {
    let damaged = |reason: String| OpenError::damaged(&layout.dir, reason);
    let text =
        text.ok_or_else(|| damaged("it is sealed, but its file `check` is missing".into()))?;
    let check = Check::decode(&text).map_err(|corrupt| damaged(corrupt.to_string()))?;
    if *check.store().as_bytes() != store {
        return Err(damaged("its file `check` is that of another store".into()));
    }
    Ok(check)
}
