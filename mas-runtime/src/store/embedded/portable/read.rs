//! Lines into records.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use super::line::{Head, Line, Sum};
use super::write::Counted;
use super::{FORMAT, ImportError, Imported, OnProgress, Progress};
use crate::model::limits::{EXPORT_BLOCK_BYTES, EXPORT_LINE_BYTES_MAX, STORE_FLUSH_BYTES};
use crate::store::embedded::OpenError;
use crate::store::embedded::recovery::PutRecords;
use crate::store::keys::{Key, Space};
use crate::store::record;
use crate::store::tree::RecordChanges;

/// Reads an export to its end and gives its records to `put`, a part at a time. What was given before an error must not be
/// used.
pub(super) fn read(
    from: &mut dyn Read,
    dir: &Path,
    put: &mut PutRecords<'_>,
    progress: &mut OnProgress<'_>,
) -> Result<Imported, ImportError> {
    let mut lines = Lines::new(from);
    let (position, exported_unix_ms) = lines.head()?;
    let mut import = Import {
        position,
        counted: None,
        latest: None,
        block: Vec::new(),
        checked: RecordChanges::new(),
        checked_bytes: 0,
    };
    let mut put = |records| {
        let put = put(records);
        put.map_err(|e| ImportError::Open(OpenError::of_store(dir, e)))
    };
    loop {
        match lines.next()? {
            Next::Record(key, value) => import.take(&lines, key, value)?,
            Next::Checked => {
                import.checked_bytes += lines.block_bytes;
                import.checked.extend(import.block.drain(..));
                if import.checked_bytes >= STORE_FLUSH_BYTES {
                    put(std::mem::take(&mut import.checked))?;
                    import.checked_bytes = 0;
                }
                let (records, bytes) = (lines.all.records, lines.offset);
                if progress(Progress { records, bytes }).is_break() {
                    return Err(ImportError::Stopped);
                }
            }
            Next::End => break,
        }
    }
    if import.counted.unwrap_or(0) != position {
        let counted = import.counted;
        return Err(lines.damaged(format!(
            "it claims position {position}, its counters say {counted:?}"
        )));
    }
    put(import.checked)?;
    Ok(Imported {
        position,
        records: lines.all.records,
        bytes: lines.offset,
        exported_unix_ms,
    })
}

/// What an import knows of the records.
struct Import {
    position: u64,
    /// The position of the counters.
    counted: Option<u64>,
    /// The key of the record before.
    latest: Option<Key>,
    /// Records whose check is to come.
    block: Vec<(Key, Option<bytes::Bytes>)>,
    checked: RecordChanges,
    checked_bytes: usize,
}

impl Import {
    fn take(
        &mut self,
        lines: &Lines<'_>,
        key: Key,
        value: bytes::Bytes,
    ) -> Result<(), ImportError> {
        if self.latest.as_ref().is_some_and(|latest| *latest >= key) {
            return Err(lines.damaged("it is not in order, or stands there twice"));
        }
        if Space::of(&key) == Some(Space::Counters) {
            let counters = record::decode_counters(&key, value.clone());
            self.counted = counters.ok().map(|counters| counters.position);
        } else if self.counted != Some(self.position) {
            return Err(lines.damaged("counters with the export's position come first"));
        }
        self.latest = Some(key.clone());
        self.block.push((key, Some(value)));
        Ok(())
    }
}

enum Next {
    Record(Key, bytes::Bytes),
    /// All records since the last time are what was written.
    Checked,
    End,
}

/// The lines of an export.
struct Lines<'r> {
    from: BufReader<&'r mut dyn Read>,
    line: Vec<u8>,
    /// Where the line begins.
    at: u64,
    /// Where the next one does.
    offset: u64,
    block: Counted,
    block_bytes: usize,
    all: Counted,
    is_checked: bool,
}

impl<'r> Lines<'r> {
    fn new(from: &'r mut dyn Read) -> Self {
        Self {
            from: BufReader::with_capacity(256 * 1024, from),
            line: Vec::new(),
            at: 0,
            offset: 0,
            block: Counted::default(),
            block_bytes: 0,
            all: Counted::default(),
            is_checked: false,
        }
    }

    /// What is wrong with the latest line.
    fn damaged(&self, reason: impl Into<String>) -> ImportError {
        ImportError::Damaged {
            offset: self.at,
            reason: reason.into(),
        }
    }

    /// Reads a line without its end.
    fn advance(&mut self) -> Result<(), ImportError> {
        self.line.clear();
        self.at = self.offset;
        let mut limited = (&mut self.from).take(EXPORT_LINE_BYTES_MAX as u64 + 1);
        let read = limited.read_until(b'\n', &mut self.line);
        self.offset += read.map_err(ImportError::Read)? as u64;
        if self.line.pop_if(|last| *last == b'\n').is_some() {
            return Ok(());
        }
        Err(self.damaged(match self.line.len() > EXPORT_LINE_BYTES_MAX {
            true => "it is too long",
            false => "the export was cut off",
        }))
    }

    /// The position and the time of an export, when this version reads it.
    fn head(&mut self) -> Result<(u64, u64), ImportError> {
        /// What every format has.
        #[derive(Deserialize)]
        struct Export {
            mas_export: Formatted,
        }
        #[derive(Deserialize)]
        struct Formatted {
            format: u32,
        }
        self.advance()?;
        let export: Export = serde_json::from_slice(&self.line)
            .map_err(|_| self.damaged("it does not begin as an export of mas does"))?;
        let found = export.mas_export.format;
        if found > FORMAT {
            let known = FORMAT;
            return Err(ImportError::NewerFormat { found, known });
        }
        let head: Head = serde_json::from_slice(&self.line)
            .map_err(|_| self.damaged("its first line is not what was written"))?;
        self.count();
        let Head::MasExport {
            format,
            unix_ms,
            position,
            ..
        } = head;
        if format != FORMAT {
            return Err(self.damaged(format!("it has format {format}, which there is not")));
        }
        Ok((position, unix_ms))
    }

    /// Takes the line into the sums.
    fn count(&mut self) {
        for sum in [&mut self.block, &mut self.all] {
            sum.take(&self.line);
            sum.take(b"\n");
        }
        self.block_bytes += self.line.len() + 1;
        self.is_checked = false;
    }

    fn next(&mut self) -> Result<Next, ImportError> {
        if self.is_checked {
            (self.block, self.block_bytes) = (Counted::default(), 0);
        }
        self.advance()?;
        if self.line.starts_with(b"{\"check\":") {
            self.expect(&self.block.check())?;
            self.count();
            self.is_checked = true;
            return Ok(Next::Checked);
        }
        if self.line.starts_with(b"{\"end\":") {
            if !self.is_checked {
                return Err(self.damaged("a check was expected"));
            }
            self.expect(&self.all.end())?;
            return match self.from.fill_buf().map_err(ImportError::Read)? {
                [] => Ok(Next::End),
                _ => Err(self.damaged("something follows the end")),
            };
        }
        if self.block_bytes >= EXPORT_BLOCK_BYTES {
            return Err(self.damaged("a check was expected"));
        }
        let line: Line =
            serde_json::from_slice(&self.line).map_err(|_| self.damaged("it is not a record"))?;
        let record = line.into_record();
        let (key, value) = record.map_err(|reason| self.damaged(reason))?;
        self.count();
        self.block.records += 1;
        self.all.records += 1;
        Ok(Next::Record(key, value))
    }

    /// Compares a sum with that of what was read. It stands there as it is written, for no other sum is over it.
    fn expect(&self, sum: &Sum) -> Result<(), ImportError> {
        let text = serde_json::to_vec(sum);
        if text.ok().as_deref() != Some(&self.line) {
            return Err(self.damaged("it or the lines before it are not what was written"));
        }
        Ok(())
    }
}
