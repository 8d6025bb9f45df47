//! An explanation for people: a short table, what matters most first.
//!
//! Invariant: nothing of an image reaches a terminal as it is: control characters, line breaks and
//! characters that change the direction of text are written as escapes.

use super::{
    event::{Event, Weight},
    explain::Explanation,
};
use std::fmt::Write as _;

/// How many events the table shows.
const ROWS_MAX: usize = 25;
/// How many sentences of `security` are shown.
const SENTENCES_MAX: usize = 10;
/// How many causes of one event are shown.
const CAUSES_MAX: usize = 5;
/// How long a value in the table is.
const VALUE_CHARACTERS: usize = 60;

/// The explanation as lines of text, without colour.
pub fn render_text(explanation: &Explanation) -> String {
    render_text_of(explanation, "published -> rebuilt")
}

/// The same for two images of which neither is known to be a rebuild; `direction` names both.
pub fn render_text_of(explanation: &Explanation, direction: &str) -> String {
    let mut out = String::new();
    let (level, differences) = (explanation.level, explanation.differences);
    let plural = if differences == 1 { "" } else { "s" };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "level {level}: {differences} difference{plural}");
    if !explanation.security.is_empty() {
        let _ = writeln!(out, "\nWhat a container could do or trust otherwise:");
        for sentence in explanation.security.iter().take(SENTENCES_MAX) {
            let _ = writeln!(out, "  {}", plain(sentence));
        }
        let more = explanation.security.len().saturating_sub(SENTENCES_MAX) as u64;
        let more = more + explanation.security_cut;
        if more > 0 {
            let _ = writeln!(out, "  and {more} more");
        }
    }
    if explanation.events.is_empty() {
        return out;
    }
    let _ = writeln!(out, "\n{direction}:");
    let mut events: Vec<&Event> = explanation.events.iter().collect();
    events.sort_by_key(|event| (event.weight() != Weight::Security, event.weight(), event.kind));
    for event in events.iter().take(ROWS_MAX) {
        row(&mut out, event);
    }
    let shown = events.len().min(ROWS_MAX) as u64;
    if differences > shown {
        let _ = writeln!(out, "  and {} more", differences - shown);
    }
    out
}

fn row(out: &mut String, event: &Event) {
    let place = match (&event.path, event.layer) {
        (Some(path), _) => short(path),
        (None, Some(layer)) => format!("layer {layer}"),
        (None, None) => event.scope.as_str().to_owned(),
    };
    let value = |v: &Option<String>| v.as_deref().map_or("(not there)".to_owned(), short);
    let _ = writeln!(out, "  {:<22} {place}", event.kind.as_str());
    let _ = write!(out, "  {:<22}   {} -> {}", "", value(&event.a), value(&event.b));
    if let Some(first) = event.bytes.and_then(|bytes| bytes.first) {
        let _ = write!(out, ", first at byte {first}");
    }
    out.push('\n');
    for cause in event.causes.iter().take(CAUSES_MAX) {
        let (code, confidence) = (cause.code.as_str(), cause.confidence.as_str());
        let detail = plain(&cause.detail);
        let _ = writeln!(out, "  {:<22}   {code} ({confidence}): {detail}", "");
    }
}

/// A value cut to the width of the table, digests to twelve digits.
fn short(text: &str) -> String {
    let text = short_digests(text);
    let cut = text.chars().count() > VALUE_CHARACTERS;
    let head: String = text.chars().take(VALUE_CHARACTERS).collect();
    format!("{}{}", plain(&head), if cut { "…" } else { "" })
}

fn short_digests(text: &str) -> String {
    const PREFIX: &str = "sha256:";
    let mut out = String::with_capacity(text.len());
    for (index, part) in text.split(PREFIX).enumerate() {
        if index > 0 {
            out.push_str(PREFIX);
        }
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        match (index, digits, part.get(..12), part.get(64..)) {
            (1.., 64, Some(head), Some(rest)) => {
                out.push_str(head);
                out.push('…');
                out.push_str(rest);
            }
            _ => out.push_str(part),
        }
    }
    out
}

/// The text with everything escaped that could steer a terminal.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let steers = character.is_control()
            || matches!(
                character,
                '\u{ad}'
                    | '\u{61c}'
                    | '\u{180e}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{feff}'
                    | '\u{fff9}'..='\u{fffb}'
                    | '\u{e0000}'..='\u{e007f}'
            );
        if steers {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_short() {
        let digest = attest::Digest::of(b"x").to_string();
        assert_eq!(
            short(&format!("file {digest} (1 bytes)")),
            "file sha256:2d711642b726… (1 bytes)"
        );
        assert_eq!(short("sha256:abc"), "sha256:abc");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let text = plain("a\u{1b}[31m\r\n\u{202e}b\u{9b}c é 漢");
        assert_eq!(text, "a\\u{1b}[31m\\r\\n\\u{202e}b\\u{9b}c é 漢");
    }
}
