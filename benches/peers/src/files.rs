//! The measured files: bases that are built once, copies that may be changed, and their size on disk.
//!
//! Always holds: a base gets its name when it is complete, so an interrupted build is never used. A copy is
//! synced before it is measured, so that the system does not write it meanwhile.

use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::Result;
use crate::data::{DataSet, Size};
use crate::engines::{Engine, EngineKind, Past};

/// The number of bytes in the unit in which file systems count.
const BLOCK_BYTES: u64 = 512;

/// The directory and the size of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) size: Size,
    pub(crate) directory: &'a Path,
}

/// An open copy of a base. When it is dropped, it is closed and removed.
pub(crate) struct Copy {
    pub(crate) kind: EngineKind,
    pub(crate) engine: Box<dyn Engine>,
    _directory: TempDir,
}

impl Setting<'_> {
    /// Returns an empty directory that is removed when it is dropped.
    pub(crate) fn scratch(&self) -> Result<TempDir> {
        Ok(tempfile::Builder::new().prefix("scratch-").tempdir_in(self.directory)?)
    }

    /// Returns the directory of an engine's database of random values with all records. Builds it if it does
    /// not exist.
    pub(crate) fn base(&self, kind: EngineKind, past: Past) -> Result<PathBuf> {
        let set = self.size.random();
        let past = kind.past(past);
        let name = match past {
            Past::Loaded => "loaded",
            Past::Grown => "grown",
        };
        let path = self.directory.join(format!("{}-{}-{name}", kind.directory_name(), set.size.name()));
        if path.exists() {
            return Ok(path);
        }
        let scratch = self.scratch()?;
        build(kind, set, past, scratch.path())?;
        fs::rename(scratch.path(), &path)?;
        Ok(path)
    }

    /// Returns an open database of random values that may be changed.
    pub(crate) fn copy(&self, kind: EngineKind, past: Past) -> Result<Copy> {
        let (base, directory) = (self.base(kind, past)?, self.scratch()?);
        copy_directory(&base, directory.path())?;
        Copy::open(kind, directory)
    }

    /// Returns an open database of any data set that has grown and may be changed.
    pub(crate) fn grown(&self, kind: EngineKind, set: DataSet) -> Result<Copy> {
        if set == self.size.random() {
            return self.copy(kind, Past::Grown);
        }
        let directory = self.scratch()?;
        build(kind, set, kind.past(Past::Grown), directory.path())?;
        Copy::open(kind, directory)
    }

    /// Returns a CSV file of random values.
    pub(crate) fn csv(&self) -> Result<PathBuf> {
        let path = self.directory.join(format!("{}.csv", self.size.name()));
        if path.exists() {
            return Ok(path);
        }
        let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(self.directory)?);
        writeln!(file, "value,entity_type_id")?;
        for row in self.size.random().rows() {
            writeln!(file, "{},{}", row.value, row.entity_type)?;
        }
        file.into_inner()?.persist(&path)?;
        Ok(path)
    }
}

impl Copy {
    fn open(kind: EngineKind, directory: TempDir) -> Result<Self> {
        settle();
        Ok(Self { kind, engine: kind.open(directory.path())?, _directory: directory })
    }
}

fn build(kind: EngineKind, set: DataSet, past: Past, directory: &Path) -> Result<()> {
    let start = Instant::now();
    kind.build(directory, set, past)?;
    let megabytes = disk_bytes(directory)? / 1_000_000;
    let (name, size, what) = (kind.name(), set.size.name(), set.kind.name());
    eprintln!("built {name}, {size} {what}, {past:?}, in {:.1?}: {megabytes} MB", start.elapsed());
    Ok(())
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy_directory(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Returns the disk usage of files, which is less than their length if they have holes.
pub(crate) fn disk_bytes(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.blocks() * BLOCK_BYTES);
    }
    fs::read_dir(path)?.map(|entry| disk_bytes(&entry?.path())).sum()
}

/// Waits until the disk is idle, so that earlier writes do not slow down the next measurement.
pub(crate) fn settle() {
    // This is optional: without the command the runs are noisier, but still fair.
    _ = Command::new("sync").status();
}
