//! A store into lines.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;

use super::line::{Head, Line, Sum};
use super::{ExportError, Exported, FORMAT, OnProgress, Progress};
use crate::model::limits::EXPORT_BLOCK_BYTES;
use crate::store::StoreError;
use crate::store::index::Index;
use crate::store::keys::{self, ENGINE_SPACE, KeyRange};
use crate::store::record;

/// Writes all that an index holds, which must not change meanwhile. `unix` is now.
pub(in super::super) fn write(
    index: &dyn Index,
    unix: Duration,
    to: &mut dyn Write,
    progress: &mut OnProgress<'_>,
) -> Result<Exported, ExportError> {
    let position = position(index).map_err(ExportError::Store)?;
    let mut writer = Writer {
        to,
        progress,
        line: Vec::new(),
        block: Counted::default(),
        all: Counted::default(),
        block_bytes: 0,
        bytes: 0,
    };
    writer.put(&Head::MasExport {
        format: FORMAT,
        mas: env!("CARGO_PKG_VERSION").to_owned(),
        unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
        position,
    })?;
    writer.check()?;
    let all = KeyRange {
        from: Vec::new(),
        to: vec![ENGINE_SPACE],
    };
    let mut failed = None;
    let scanned = index.scan(&all, &mut |key, value| {
        let line = Line::of_record(key, value)?;
        Ok(match writer.add(&line) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })
    });
    scanned.map_err(ExportError::Store)?;
    match failed {
        Some(error) => Err(error),
        None => writer.finish(position),
    }
}

/// The last commit that an index reflects.
fn position(index: &dyn Index) -> Result<u64, StoreError> {
    let key = keys::counters();
    match index.get(&key)? {
        Some(value) => Ok(record::decode_counters(&key, value)?.position),
        None => Ok(0),
    }
}

/// Records, and the CRC32C of their lines.
#[derive(Clone, Copy, Default)]
pub(super) struct Counted {
    pub(super) records: u64,
    pub(super) crc: u32,
}

impl Counted {
    /// Takes in bytes of lines.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
    }

    /// The line that says so of the lines since the one before.
    pub(super) fn check(self) -> Sum {
        Sum::Check {
            records: self.records,
            crc32c: format!("{:08x}", self.crc),
        }
    }

    /// The line that says so of all lines.
    pub(super) fn end(self) -> Sum {
        Sum::End {
            records: self.records,
            crc32c: format!("{:08x}", self.crc),
        }
    }
}

struct Writer<'w, 'p> {
    to: &'w mut dyn Write,
    progress: &'w mut OnProgress<'p>,
    line: Vec<u8>,
    /// Since the last check.
    block: Counted,
    all: Counted,
    /// Bytes since the last check.
    block_bytes: usize,
    bytes: u64,
}

impl Writer<'_, '_> {
    /// Writes a line.
    fn put(&mut self, line: &impl Serialize) -> Result<(), ExportError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)
            .map_err(|error| ExportError::Write(io::Error::other(error)))?;
        self.line.push(b'\n');
        self.to.write_all(&self.line).map_err(ExportError::Write)?;
        self.block.take(&self.line);
        self.all.take(&self.line);
        self.block_bytes += self.line.len();
        self.bytes += self.line.len() as u64;
        Ok(())
    }

    /// Writes a record.
    fn add(&mut self, line: &Line) -> Result<(), ExportError> {
        self.put(line)?;
        self.block.records += 1;
        self.all.records += 1;
        if self.block_bytes >= EXPORT_BLOCK_BYTES {
            self.check()?;
        }
        Ok(())
    }

    /// Ends a block.
    fn check(&mut self) -> Result<(), ExportError> {
        self.put(&self.block.check())?;
        self.block = Counted::default();
        self.block_bytes = 0;
        let progress = Progress {
            records: self.all.records,
            bytes: self.bytes,
        };
        match (self.progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ExportError::Stopped),
        }
    }

    fn finish(mut self, position: u64) -> Result<Exported, ExportError> {
        if self.block.records > 0 {
            self.check()?;
        }
        self.put(&self.all.end())?;
        self.to.flush().map_err(ExportError::Write)?;
        Ok(Exported {
            position,
            records: self.all.records,
            bytes: self.bytes,
        })
    }
}
