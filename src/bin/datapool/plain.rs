//! Text that is safe for a terminal.

use std::fmt::Write;

/// Returns true for invisible characters: those without width, and those that change the direction of writing.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn is_unsafe(character: char) -> bool {
    character.is_control() || is_invisible(character)
}

/// Escapes characters with which a text could move the terminal's cursor, break its line or hide something.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Escapes such characters in a JSON text. They occur only within strings, so its value stays the same.
pub(crate) fn plain_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) && !"\n\r\t".contains(character) {
            // Writing to a string cannot fail. All such characters have four hexadecimal digits.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}
