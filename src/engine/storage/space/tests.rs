//! Proves that what was written is read back, whatever space the disk has meanwhile; that the space which is thought to be allocated
//! is; and that a disk with room again gives the file all that it lacks.

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

/// Compares what the space knows of the disk with what the disk has granted.
fn assert_known(space: &Space, disk: &SmallDisk, step: &Step) {
    let (extent, state) = (space.extent.lock(), disk.0.lock());
    let Some(extent) = &*extent else { return };
    let pages = |from: u64, to: u64| from / PAGE_BYTES as u64..to.div_ceil(PAGE_BYTES as u64);
    let is_taken = |from, to| pages(from, to).all(|page| state.taken.contains(&page));
    let (from, to) = extent.reserve_range(1);
    assert!(is_taken(from, from + extent.kept), "{} bytes of the reserve: {step:?}", extent.kept);
    assert_eq!(extent.real_len, state.bytes.len() as u64, "{step:?}");
    let is_whole = extent.homeless.is_empty() && extent.real_len == extent.len;
    assert_eq!(space.is_incomplete(), !is_whole, "{step:?}");
    let has_all = is_whole && is_taken(0, extent.len) && is_taken(from, to);
    assert!(space.is_tight() || has_all, "it lacks space, and does not know: {step:?}");
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
            Step::MakeRoom(need) => {
                let was_tight = space.is_tight();
                if space.make_room(need, file).is_ok() {
                    let kept = space.extent.lock().as_ref().map_or(0, |extent| extent.kept);
                    assert!(!space.is_incomplete() && (!was_tight || kept == 0), "{kept} bytes are kept");
                    space.sync(file).unwrap();
                }
            }
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
        assert_known(&space, &disk, step);
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
    disk.0.lock().room = usize::MAX;
    for need in [Need::Reserve, Need::Adding, Need::Adding] {
        space.make_room(need, file).unwrap();
        space.keep_reserve(file).unwrap();
    }
    assert!(!space.is_tight() && !space.is_full() && !space.is_incomplete());
    assert_known(&space, &disk, &Step::Room(usize::MAX));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read_back_whatever_space_there_is(steps in prop::collection::vec(step(), 1..80)) {
        runs(&steps);
    }
}
