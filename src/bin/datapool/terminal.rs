//! Standard output as a terminal: its width, and bytes that are safe for it.

use std::io::{self, IsTerminal, Write};

use console::measure_text_width;

use crate::plain::plain;

/// The width if nothing says what it is.
const DEFAULT_WIDTH: u16 = 80;

/// Returns true if a person sees standard output as it comes.
pub(crate) fn is_seen() -> bool {
    io::stdout().is_terminal()
}

/// Returns the width of the terminal, or `None` if standard output is no terminal.
pub(crate) fn width_if_seen() -> Option<u16> {
    is_seen().then(|| own_width().or_else(width_of_environment).unwrap_or(DEFAULT_WIDTH))
}

/// Returns the width for charts, which they have in a file, too.
pub(crate) fn width() -> usize {
    usize::from(width_if_seen().or_else(width_of_environment).unwrap_or(DEFAULT_WIDTH))
}

/// Returns what the terminal says. Its number of rows does not matter: some have 0 rows, and a width.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn own_width() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn own_width() -> Option<u16> {
    console::Term::stdout().size_checked().map(|(_, columns)| columns)
}

fn width_of_environment() -> Option<u16> {
    std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns > 0)
}

/// Breaks the lines of a text that are wider than this many columns, at blanks. A longer word stays whole.
pub(crate) fn wrap(text: &str, columns: usize) -> String {
    let mut wrapped = String::with_capacity(text.len());
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            wrapped.push('\n');
        }
        if measure_text_width(line) <= columns {
            wrapped.push_str(line);
            continue;
        }
        let mut used = 0;
        for word in line.split(' ') {
            let width = measure_text_width(word);
            if used > 0 && used + 1 + width > columns {
                wrapped.push('\n');
                used = 0;
            } else if used > 0 {
                wrapped.push(' ');
                used += 1;
            }
            wrapped.push_str(word);
            used += width;
        }
    }
    wrapped
}

/// Passes text on to a terminal, line by line, with its control characters escaped.
pub(crate) struct Escaping<W: Write> {
    out: W,
    /// The start of a line whose end has not come yet.
    line: Vec<u8>,
}

impl<W: Write> Escaping<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, line: Vec::new() }
    }

    fn write_line(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        self.out.write_all(plain(&String::from_utf8_lossy(&line)).as_bytes())
    }
}

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ended = part.strip_suffix(b"\n");
            self.line.extend_from_slice(ended.unwrap_or(part));
            if ended.is_some() {
                self.write_line()?;
                self.out.write_all(b"\n")?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_line()?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    //! Proves where lines are broken, and what reaches a terminal.

    use super::*;

    #[test]
    fn lines_are_broken_at_blanks_and_long_words_stay_whole() {
        assert_eq!(wrap("one two three", 7), "one two\nthree");
        assert_eq!(wrap("one two\nthree", 7), "one two\nthree");
        assert_eq!(
            wrap("1 to 2 of 3 records; 'page=2&per_page=2'", 12),
            "1 to 2 of 3\nrecords;\n'page=2&per_page=2'"
        );
        assert_eq!(wrap("", 7), "");
    }

    #[test]
    fn a_text_that_comes_in_parts_is_escaped_as_a_whole() {
        let mut out = Vec::new();
        let mut escaping = Escaping::new(&mut out);
        for part in ["a\u{1b}[2J\nb\u{9b}é\n".as_bytes(), b"c\xc2", b"\x9bd\te"] {
            escaping.write_all(part).unwrap();
        }
        escaping.flush().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\\u{1b}[2J\nb\\u{9b}é\nc\\u{9b}d\\te");
    }
}
