//! Splitting a command into words, as the Go library shlex does.
//!
//! White space separates; `"…"` keeps it, with `\` taking the next character as it is; `'…'` keeps
//! everything; `\` outside quotes takes the next character; `#` at the start of a word begins a
//! comment up to the end of the line. Invariant: no expansion of any kind, nothing is run.

/// The text ends inside a quote or after a backslash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {0} before the end of the command")]
pub struct WordsError(&'static str);

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The words of a command.
pub fn split_words(text: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            _ if is_space(c) => words.extend(word.take()),
            '#' if word.is_none() => {
                rest.by_ref().find(|c| *c == '\n');
            }
            '\\' => {
                let next = rest.next().ok_or(WordsError("a character after a backslash"))?;
                word.get_or_insert_default().push(next);
            }
            '"' => quoted(&mut rest, word.get_or_insert_default())?,
            '\'' => literal(&mut rest, word.get_or_insert_default())?,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), WordsError> {
    loop {
        match rest.next().ok_or(WordsError("a closing quote"))? {
            '"' => return Ok(()),
            '\\' => word.push(rest.next().ok_or(WordsError("a character after a backslash"))?),
            c => word.push(c),
        }
    }
}

fn literal(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), WordsError> {
    loop {
        match rest.next().ok_or(WordsError("a closing quote"))? {
            '\'' => return Ok(()),
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words() {
        for (text, expected) in [
            ("", &[][..]),
            ("  a  b\t", &["a", "b"]),
            (r#"--flag "two words" 'x<y>&z'"#, &["--flag", "two words", "x<y>&z"]),
            (r#""" '' a"""#, &["", "", "a"]),
            (r#"a"b c"d'e f'"#, &["ab cde f"]),
            (r#""a\"b\\" \# \ x"#, &["a\"b\\", "#", " x"]),
            ("a # rest\nb#c", &["a", "b#c"]),
        ] {
            assert_eq!(split_words(text).unwrap(), expected, "{text}");
        }
        for bad in ["'a", "\"a", "\\", "\"\\"] {
            assert!(split_words(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn plain_words_come_back(words in proptest::collection::vec("[a-z/=-]{1,8}", 0..8)) {
            prop_assert_eq!(split_words(&words.join(" ")).unwrap(), words);
        }
    }
}
