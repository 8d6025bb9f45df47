//! The line breaks of YAML 1.1 that YAML 1.2 does not have: U+2028 and U+2029.
//!
//! Go's YAML library still ends a line there: in a quoted text the break stays and the blanks
//! around it go. Invariant: a document without such characters passes unchanged; one with them at a
//! place where that reading would change its structure is refused, never read in another way.

use std::borrow::Cow;

/// Such a character where it cannot be read as Go reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: expected U+0085, U+2028 and U+2029 as escapes or inside one line of a quoted \
     text, found one elsewhere"
)]
pub(super) struct OldLineBreak {
    line: usize,
}

/// Where the scanner is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between texts, or in an unquoted one.
    Plain,
    Single,
    Double,
}

fn is_old_break(c: char) -> bool {
    matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The document as a parser of YAML 1.2 has to see it to read what Go reads.
pub(super) fn resolve(text: &str) -> Result<Cow<'_, str>, OldLineBreak> {
    if !text.contains(is_old_break) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut state = State::Plain;
    // Indentation of the line that opened a block text; its lines are indented more.
    let mut block: Option<usize> = None;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let error = OldLineBreak { line: index + 1 };
        let indentation = line.len() - line.trim_start_matches(' ').len();
        if state == State::Plain {
            let blank = line.trim().is_empty();
            if block.is_some_and(|opener| blank || indentation > opener) {
                if line.contains(is_old_break) {
                    return Err(error);
                }
                out.push_str(line);
                continue;
            }
            block = opens_block(line).then_some(indentation);
        }
        state = scan_line(line, state, &mut out).ok_or(error)?;
    }
    Ok(Cow::Owned(out))
}

/// True if the lines that follow are a block text (`key: |`, `- >-`).
fn opens_block(line: &str) -> bool {
    let Some(last) = line.split_whitespace().next_back() else { return false };
    let mut rest = last.chars();
    matches!(rest.next(), Some('|' | '>')) && rest.all(|c| matches!(c, '-' | '+' | '1'..='9'))
}

/// Copies one line; gives the state at its end, or none for a break at a wrong place.
fn scan_line(line: &str, mut state: State, out: &mut String) -> Option<State> {
    let mut rest = line.chars().peekable();
    // The last character that is no blank, as far as it tells whether a text may begin here.
    let mut before: Option<char> = None;
    while let Some(c) = rest.next() {
        if is_old_break(c) {
            if state == State::Plain || c == '\u{85}' {
                return None;
            }
            out.truncate(out.trim_end_matches([' ', '\t']).len());
            while rest.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
            let edge = |c: &char| matches!(c, '\n' | '\r');
            if out.ends_with(['\n', '\\']) || rest.peek().is_none_or(edge) {
                return None;
            }
            out.push(c);
            continue;
        }
        out.push(c);
        match (state, c) {
            (State::Plain, '#') if out.trim_end_matches('#').ends_with([' ', '\t', '\n']) => {
                let comment: String = rest.by_ref().collect();
                if comment.contains(is_old_break) {
                    return None;
                }
                out.push_str(&comment);
            }
            (State::Plain, '\'' | '"') if before.is_none_or(|b| ":-,[{?".contains(b)) => {
                state = if c == '"' { State::Double } else { State::Single };
            }
            (State::Double, '\\') => out.extend(rest.next_if(|c| !is_old_break(*c))),
            (State::Single, '\'') => match rest.next_if_eq(&'\'') {
                Some(quote) => out.push(quote),
                None => state = State::Plain,
            },
            (State::Double, '"') => state = State::Plain,
            _ => {}
        }
        if !c.is_whitespace() {
            before = Some(c);
        }
    }
    Some(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quoted_texts_keep_the_break_and_lose_the_blanks() {
        for (text, expected) in [
            ("a: 'é\u{2028}    '\n", "a: 'é\u{2028}'\n"),
            ("a: \"x \u{2029} y\"", "a: \"x\u{2029}y\""),
            ("a: 'it''s \u{2028}x'", "a: 'it''s\u{2028}x'"),
            ("- \"\\\"\u{2028} z\"", "- \"\\\"\u{2028}z\""),
            ("a: |\n  it's\nb: '\u{2028} x'", "a: |\n  it's\nb: '\u{2028}x'"),
            ("a: don't # it's\nb: ['\u{2028} x']", "a: don't # it's\nb: ['\u{2028}x']"),
        ] {
            assert_eq!(resolve(text).unwrap(), expected, "{text:?}");
        }
        assert!(matches!(resolve("a: b"), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn elsewhere_they_are_refused() {
        for text in [
            "a: b\u{2028}c: d",
            "# x\u{2028}a: b",
            "a: |\n  x\u{2028}y\n",
            "a: 'x\u{85}y'",
            "a: 'x\n \u{2028}y'",
            "a: 'x\u{2028}\n y'",
            "a: \"x\\\u{2028}y\"",
        ] {
            assert!(resolve(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text(text in "(a|: |'|\"|\\\\|#|\n|\\| |\u{2028}|\u{85}| |-){0,30}") {
            let _ = resolve(&text);
        }
    }
}
