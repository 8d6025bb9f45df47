//! Foreign text in our messages.
//!
//! Invariant: short, and without control characters. Text from a server or a reference must never
//! reach a terminal in another way.

/// Longest piece of foreign text in a message.
const FOREIGN_CHARS_MAX: usize = 200;

/// Foreign text for a message: at most 200 characters, control characters replaced, so that a
/// hostile server cannot write escape sequences to a terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .take(FOREIGN_CHARS_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(FOREIGN_CHARS_MAX).is_some() {
        clean.push('…');
    }
    clean
}
