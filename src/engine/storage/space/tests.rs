//! Proves that what was written is read back, whatever space the disk has meanwhile.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A file on a disk with few pages. A page takes space when it is written to or allocated.
#[derive(Debug, Default)]
struct SmallDisk(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    taken: BTreeSet<u64>,
    room: usize,
}

impl State {
    /// Takes the pages in order, as far as there is space, and returns an error if there is not enough.
    fn take(&mut self, from: u64, to: u64) -> io::Result<()> {
        for page in from / PAGE_BYTES as u64..to.div_ceil(PAGE_BYTES as u64) {
            if !self.taken.contains(&page) && self.taken.len() >= self.room {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.taken.insert(page);
        }
        Ok(())
    }
}

impl Allocate for SmallDisk {
    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        let before = state.taken.clone();
        state.take(from, to).inspect_err(|_| state.taken = before)
    }
}

impl StorageBackend for SmallDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.lock().bytes[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        state.bytes.resize(usize::try_from(len).unwrap(), 0);
        // Also what was allocated beyond the end.
        drop(state.taken.split_off(&len.div_ceil(PAGE_BYTES as u64)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    /// Writes as many pages as there is space for, as a file does.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        for (at, page) in (offset..).step_by(PAGE_BYTES).zip(data.chunks(PAGE_BYTES)) {
            state.take(at, at + page.len() as u64)?;
            let at = usize::try_from(at).unwrap();
            state.bytes[at..at + page.len()].copy_from_slice(page);
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Writes this many pages from that one on, each of this byte.
    Write(u8, u8, u8),
    SetLen(u8),
    Room(usize),
    MakeRoom(Need),
    KeepReserve,
}

fn step() -> impl Strategy<Value = Step> {
    let need = prop_oneof![Just(Need::Adding), Just(Need::Reserve)];
    prop_oneof![
        8 => (1..40_u8, 1..4_u8, 1..=255_u8).prop_map(|(at, pages, byte)| Step::Write(at, pages, byte)),
        2 => (1..44_u8).prop_map(Step::SetLen),
        2 => (0..140_usize).prop_map(Step::Room),
        2 => need.prop_map(Step::MakeRoom),
        1 => Just(Step::KeepReserve),
    ]
}

/// Applies the steps. Each page that was written must be read back as written last.
fn runs(steps: &[Step]) {
    let disk = Arc::new(SmallDisk::default());
    let (room, file): (Arc<dyn Allocate>, &dyn StorageBackend) = (Arc::clone(&disk) as _, &*disk);
    let space = Space::new(room);
    let mut model: Vec<Option<u8>> = Vec::new();
    for step in steps {
        match *step {
            Step::Room(pages) => disk.0.lock().room = pages,
            Step::KeepReserve => space.keep_reserve(file).unwrap(),
            Step::MakeRoom(need) => drop(space.make_room(need, file)),
            Step::SetLen(pages) => {
                space.set_len(u64::from(pages) * PAGE_BYTES as u64, file).unwrap();
                model.resize(usize::from(pages), None);
            }
            Step::Write(at, pages, byte) => {
                let (first, last) = (usize::from(at), usize::from(at + pages));
                if last > model.len() {
                    continue;
                }
                let data = vec![byte; usize::from(pages) * PAGE_BYTES];
                space.write(u64::from(at) * PAGE_BYTES as u64, &data, file).unwrap();
                model[first..last].fill(Some(byte));
            }
        }
        for (page, byte) in model.iter().enumerate() {
            let Some(byte) = byte else { continue };
            let mut out = vec![0; PAGE_BYTES];
            space.read((page * PAGE_BYTES) as u64, &mut out, file).unwrap();
            assert!(
                out.iter().all(|found| found == byte),
                "page {page} has {}, not {byte}: {step:?}",
                out[0]
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read_back_whatever_space_there_is(steps in prop::collection::vec(step(), 1..80)) {
        runs(&steps);
    }
}
