//! A disk in memory that tests control: it can fail, tear writes, block, and lose power.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, mpsc};

use datapool_store::testing::{self, Disk, Sizes};
use datapool_store::{DataPoolStore, Result, StoreOptions};

use crate::support::Numbers;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Write,
    Sync,
    SetLen,
    /// Any operation except reading.
    Change,
}

impl Operation {
    fn covers(self, done: Self) -> bool {
        self == done || (self == Self::Change && done != Self::Read)
    }
}

/// The effect of a failed write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Torn {
    Nothing,
    Half,
    /// The write is on its way to the disk, like those before it, so parts of it may arrive.
    Underway,
}

/// The error that the system reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// EIO.
    Broken,
    /// ENOSPC.
    Full,
}

impl Reason {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Broken => 5,
            Self::Full => 28,
        })
    }
}

/// The disk fails at the `after`-th operation of a kind, either once or from then on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) operation: Operation,
    pub(crate) after: usize,
    pub(crate) forever: bool,
    pub(crate) torn: Torn,
    pub(crate) reason: Reason,
}

impl Fault {
    /// Returns a loss of power at the `after`-th change.
    pub(crate) fn power(after: usize) -> Self {
        let (operation, torn) = (Operation::Change, Torn::Underway);
        Self { operation, after, forever: true, torn, reason: Reason::Broken }
    }
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// The bytes as of the last sync. `since` has the changes made after it.
    synced: Vec<u8>,
    since: Vec<Change>,
    fault: Option<Fault>,
    failed: bool,
    /// The number of changes requested.
    changes: usize,
    room: Room,
}

/// The limited space of a disk, independent of the length of the file. A page takes space once it is written
/// or allocated.
#[derive(Debug)]
struct Room {
    /// The number of pages.
    pages: usize,
    taken: BTreeSet<u64>,
    keeps: Keeping,
}

impl Default for Room {
    fn default() -> Self {
        Self { pages: usize::MAX, taken: BTreeSet::new(), keeps: Keeping::Yes }
    }
}

/// The ability of a disk to allocate space in advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    Yes,
    /// Space is only allocated by writing.
    No,
}

const PAGE: u64 = 4_096;

impl Room {
    /// Allocates space for a range of bytes, completely or not at all.
    fn take(&mut self, from: u64, to: u64) -> io::Result<()> {
        let pages: Vec<u64> =
            (from / PAGE..to.div_ceil(PAGE)).filter(|page| !self.taken.contains(page)).collect();
        if self.taken.len() + pages.len() > self.pages {
            return Err(Reason::Full.error());
        }
        self.taken.extend(pages);
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Self::SetLen(length) => bytes.resize(*length, 0),
        }
    }
}

/// The unit that a disk writes atomically.
const SECTOR: usize = 512;

/// The largest length of the disk.
const LARGEST: u64 = 1 << 30;

/// A disk in memory that tests control.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestDisk {
    state: Arc<Mutex<State>>,
    pub(crate) gate: Arc<Gate>,
}

/// Blocks syncs while it is shut.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) shut: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl TestDisk {
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        let mut state = State { synced: bytes.clone(), bytes, ..State::default() };
        state.room.taken.extend(0..(state.bytes.len() as u64).div_ceil(PAGE));
        Self { state: Arc::new(Mutex::new(state)), ..Self::default() }
    }

    pub(crate) fn open(&self, options: &StoreOptions) -> Result<DataPoolStore> {
        testing::on_disk(self.clone(), options, Sizes::SMALL)
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.state.lock().unwrap().fault = Some(fault);
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        (state.fault, state.failed) = (None, false);
    }

    /// Leaves space for this many bytes in addition to what is on the disk now.
    pub(crate) fn leave_room(&self, bytes: u64, keeps: Keeping) {
        let mut state = self.state.lock().unwrap();
        state.room.pages = state.room.taken.len() + usize::try_from(bytes / PAGE).unwrap();
        state.room.keeps = keeps;
    }

    /// Returns the space that the file takes.
    pub(crate) fn taken(&self) -> u64 {
        self.state.lock().unwrap().room.taken.len() as u64 * PAGE
    }

    pub(crate) fn failed(&self) -> bool {
        self.state.lock().unwrap().failed
    }

    /// Returns the number of changes requested.
    pub(crate) fn changes(&self) -> usize {
        self.state.lock().unwrap().changes
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state.lock().unwrap().bytes.clone()
    }

    /// Returns possible contents after a loss of power now: everything, only what was synced, or that and
    /// some of the later writes.
    pub(crate) fn images(&self) -> Vec<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let with = |keep: &dyn Fn(usize) -> bool| {
            let mut bytes = state.synced.clone();
            let kept = state.since.iter().enumerate().filter(|(index, _)| keep(*index));
            kept.for_each(|(_, change)| change.apply(&mut bytes));
            bytes
        };
        if state.since.is_empty() {
            return vec![state.bytes.clone()];
        }
        let last = state.since.len() - 1;
        vec![
            state.bytes.clone(),
            with(&|_| false),
            with(&|index| index % 2 == 0),
            with(&|index| index == last),
        ]
    }

    /// Returns random contents after a loss of power now. Each sector written since the last sync has its old
    /// contents or any written since, and the disk has any of its lengths since then.
    pub(crate) fn after_a_loss_of_power(&self, numbers: &mut Numbers) -> Vec<u8> {
        let state = self.state.lock().unwrap();
        let mut bytes = state.synced.clone();
        let mut lengths = vec![bytes.len()];
        let mut versions: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        for change in &state.since {
            change.apply(&mut bytes);
            lengths.push(bytes.len());
            let Change::Write(offset, data) = change else { continue };
            for sector in offset / SECTOR..(offset + data.len()).div_ceil(SECTOR) {
                let end = ((sector + 1) * SECTOR).min(bytes.len());
                versions.entry(sector).or_default().push(bytes[sector * SECTOR..end].to_vec());
            }
        }
        let length = match numbers.next(2) {
            0 => bytes.len(),
            _ => lengths[pick(numbers, lengths.len())],
        };
        let mut image = state.synced.clone();
        image.resize(length, 0);
        let survive_of_ten = [0, 1, 5, 5, 9, 10][pick(numbers, 6)];
        for (sector, versions) in versions {
            let start = sector * SECTOR;
            if numbers.next(10) >= survive_of_ten || start >= length {
                continue;
            }
            let newest = versions.len() - 1;
            let version = if numbers.next(4) == 0 { pick(numbers, versions.len()) } else { newest };
            let end = (start + versions[version].len()).min(length);
            image[start..end].copy_from_slice(&versions[version][..end - start]);
        }
        image
    }
}

fn pick(numbers: &mut Numbers, below: usize) -> usize {
    usize::try_from(numbers.next(below as u64)).unwrap()
}

impl State {
    /// Counts an operation. Returns the reason if it must fail.
    fn failure(&mut self, operation: Operation) -> Option<Reason> {
        let failed = self.failed;
        let fault = self.fault.as_mut()?;
        if failed {
            return fault.forever.then_some(fault.reason);
        }
        if !fault.operation.covers(operation) {
            return None;
        }
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        self.failed = true;
        Some(fault.reason)
    }

    fn check(&mut self, operation: Operation) -> io::Result<()> {
        self.changes += usize::from(operation != Operation::Read);
        self.failure(operation).map_or(Ok(()), |reason| Err(reason.error()))
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.since.push(change);
    }
}

impl Disk for TestDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.check(Operation::Read)?;
        let start = usize::try_from(offset).unwrap();
        let found = state.bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.check(Operation::SetLen)?;
        if len > LARGEST {
            return Err(Reason::Full.error());
        }
        // Space that was allocated beyond the end is lost, too.
        state.room.taken.split_off(&len.div_ceil(PAGE));
        state.change(Change::SetLen(usize::try_from(len).unwrap()));
        Ok(())
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        let room = &mut self.state.lock().unwrap().room;
        match room.keeps {
            Keeping::No => Err(io::ErrorKind::Unsupported.into()),
            Keeping::Yes => room.take(from, to),
        }
    }

    fn beside(&self) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(Beside { disk: self.clone(), own: Mutex::default() }))
    }

    /// Atomic, like renaming a file in a synced directory.
    fn take_over(&self, copy: &dyn Disk) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(copy.len()?).unwrap()];
        copy.read(0, &mut bytes)?;
        let mut state = self.state.lock().unwrap();
        state.check(Operation::Sync)?;
        state.room.taken = (0..(bytes.len() as u64).div_ceil(PAGE)).collect();
        state.since.clear();
        state.synced.clone_from(&bytes);
        state.bytes = bytes;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if let Some((held, released)) = self.gate.shut.lock().unwrap().take() {
            held.send(()).unwrap();
            released.recv().unwrap();
        }
        let mut state = self.state.lock().unwrap();
        state.check(Operation::Sync)?;
        let State { synced, since, .. } = &mut *state;
        since.drain(..).for_each(|change| change.apply(synced));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let was_dead = state.failed && state.fault.is_some_and(|fault| fault.forever);
        let end = offset + data.len() as u64;
        let checked = state.check(Operation::Write).and_then(|()| state.room.take(offset, end));
        let torn = state.fault.map_or(Torn::Nothing, |fault| fault.torn);
        let arrives = match (&checked, torn) {
            (Ok(()), _) => data.len(),
            (Err(_), Torn::Half) => data.len() / 2,
            (Err(_), Torn::Underway) if !was_dead => data.len(),
            (Err(_), _) => 0,
        };
        if arrives > 0 {
            state.change(Change::Write(usize::try_from(offset).unwrap(), data[..arrives].to_vec()));
        }
        checked
    }
}

/// A second file on the same disk, which fails with it. It does not survive a loss of power.
#[derive(Debug)]
struct Beside {
    disk: TestDisk,
    own: Mutex<Own>,
}

#[derive(Debug, Default)]
struct Own {
    bytes: Vec<u8>,
    is_synced: bool,
    taken: BTreeSet<u64>,
}

impl Beside {
    /// Returns an error if the disk must fail this operation.
    fn check(&self, operation: Operation) -> io::Result<()> {
        self.disk.state.lock().unwrap().check(operation)
    }
}

impl Disk for Beside {
    fn len(&self) -> io::Result<u64> {
        Ok(self.own.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check(Operation::Read)?;
        let own = self.own.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&own.bytes[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check(Operation::SetLen)?;
        let mut own = self.own.lock().unwrap();
        own.is_synced = false;
        own.bytes.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.check(Operation::Sync)?;
        self.own.lock().unwrap().is_synced = true;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check(Operation::Write)?;
        let mut own = self.own.lock().unwrap();
        own.is_synced = false;
        let start = usize::try_from(offset).unwrap();
        own.taken.extend(offset / PAGE..(offset + data.len() as u64).div_ceil(PAGE));
        let room = &self.disk.state.lock().unwrap().room;
        if room.taken.len() + own.taken.len() > room.pages {
            return Err(Reason::Full.error());
        }
        own.bytes[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}
