//! Input that can be read only once: standard input and pipes.
//!
//! Always holds: input is read to its end before the store is opened. Others can use the store while slow input comes in.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, Write};
use std::path::Path;

use datapool_store::ErrorKind;

use crate::failure::Failure;

/// The most bytes that are read at once and stay in memory. Larger input goes to a temporary file.
const CHUNK_BYTES: usize = 4 << 20;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Input that was read to its end.
pub(crate) struct Whole {
    pub(crate) reader: Box<dyn Read + Send>,
    pub(crate) bytes: u64,
}

/// Reads input to its end. `name` is its name in messages, and `store` is the file that will be opened, if the store is one.
pub(crate) fn read_whole(
    mut input: impl Read,
    name: &dyn Display,
    store: Option<&Path>,
) -> Result<Whole, Failure> {
    let spooling = |error: io::Error| {
        let beside = store.map(|store| format!(" beside {}", store.display())).unwrap_or_default();
        Failure::of(ErrorKind::Io, format!("keeping {name} in a temporary file{beside}: {error}"))
    };
    let mut chunk = Vec::new();
    read_chunk(&mut input, &mut chunk, name)?;
    if chunk.len() < CHUNK_BYTES {
        let bytes = chunk.len() as u64;
        return Ok(Whole { reader: Box::new(Cursor::new(chunk)), bytes });
    }
    let mut file = temporary_file(store).map_err(spooling)?;
    while !chunk.is_empty() {
        file.write_all(&chunk).map_err(spooling)?;
        read_chunk(&mut input, &mut chunk, name)?;
    }
    let bytes = file.stream_position().map_err(spooling)?;
    file.rewind().map_err(spooling)?;
    Ok(Whole { reader: Box::new(BufReader::with_capacity(1 << 16, file)), bytes })
}

/// Reads the next chunk in place of the last one. It is full unless the input ends.
fn read_chunk(input: &mut impl Read, chunk: &mut Vec<u8>, name: &dyn Display) -> Result<(), Failure> {
    chunk.clear();
    let read = input.take(CHUNK_BYTES as u64).read_to_end(chunk);
    read.map(|_| ()).map_err(|error| Failure::of(ErrorKind::Io, format!("{name}: {error}")))
}

/// Creates a file without a name, which the system removes when the process ends.
fn temporary_file(store: Option<&Path>) -> io::Result<File> {
    let Some(store) = store else { return tempfile::tempfile() };
    let directory = store.parent().filter(|parent| !parent.as_os_str().is_empty());
    // Beside the store, like the library's own temporary files, because the system's directory may be in memory. If that
    // fails, opening the store will report why.
    tempfile::tempfile_in(directory.unwrap_or(Path::new("."))).or_else(|_| tempfile::tempfile())
}

/// Returns the input without a byte order mark at its start.
pub(crate) fn without_mark(mut input: impl BufRead) -> io::Result<impl BufRead> {
    let mut start = Vec::new();
    input.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start)?;
    if start == BYTE_ORDER_MARK {
        start.clear();
    }
    Ok(Cursor::new(start).chain(input))
}

#[cfg(test)]
mod tests {
    //! Proves that input comes back as it was read, from memory and from a file, and that one mark is dropped.

    use super::*;

    /// Gives few bytes at a time, as a pipe does.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let most = out.len().min(65_521);
            self.0.read(&mut out[..most])
        }
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the cable is cut"))
        }
    }

    #[test]
    fn input_of_any_length_comes_back_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let all: Vec<u8> = [1_u8, 2, 3, 5, 8, 13, 21].into_iter().cycle().take(2 * CHUNK_BYTES + 1).collect();
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, all.len()] {
            for store in [directory.path().join("pools.redb"), directory.path().join("none/pools.redb")] {
                let whole = read_whole(Trickle(&all[..length]), &"input", Some(&store));
                let Ok(Whole { mut reader, bytes }) = whole else { panic!("{length} bytes") };
                let mut read = Vec::new();
                reader.read_to_end(&mut read).unwrap();
                assert!(read == all[..length] && bytes == length as u64, "{length} bytes");
                assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
            }
        }
    }

    #[test]
    fn input_that_fails_is_named() {
        let start = vec![b'x'; CHUNK_BYTES];
        for input in [Box::new(Broken) as Box<dyn Read>, Box::new(start.as_slice().chain(Broken))] {
            let Err(failure) = read_whole(input, &"standard input", Some(Path::new("pools.redb"))) else {
                panic!("it was read")
            };
            assert!(format!("{failure:?}").contains("standard input: the cable is cut"), "{failure:?}");
        }
    }

    #[test]
    fn one_byte_order_mark_is_dropped_at_the_very_start() {
        for (input, left) in [
            ("\u{feff}A-1", "A-1"),
            ("\u{feff}", ""),
            ("\u{feff}\u{feff}A-1", "\u{feff}A-1"),
            ("A\u{feff}", "A\u{feff}"),
            ("A", "A"),
            ("", ""),
        ] {
            let mut read = String::new();
            without_mark(input.as_bytes()).unwrap().read_to_string(&mut read).unwrap();
            assert_eq!(read, left, "{input:?}");
        }
        let mut read = Vec::new();
        without_mark(b"\xef\xbbA".as_slice()).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, b"\xef\xbbA");
    }
}
