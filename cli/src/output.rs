//! Data on standard output, everything else on standard error.
//!
//! Invariant: with `--format json` standard output holds exactly one JSON value with its schema and
//! a final newline (`--format ndjson`: one a line); progress and remarks never go there. A reader
//! that went away changes no exit code: what was decided stays decided, and nothing more is
//! printed. This is the only file that prints.

use serde::Serialize;
use std::{
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

/// The reader of standard output went away.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Text,
    /// One JSON value for programs.
    Json,
}

/// True once nobody reads standard output any more: what prints in a loop can stop.
pub fn is_unread() -> bool {
    UNREAD.load(Ordering::Relaxed)
}

/// Prints a result to standard output. A closed pipe is no error: the exit code says the result,
/// too, and whoever reads one line of a denial must not turn it into a pass.
pub fn data(text: &str) -> io::Result<()> {
    if is_unread() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            UNREAD.store(true, Ordering::Relaxed);
            Ok(())
        }
        other => other,
    }
}

/// Prints a value as one line of JSON.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    data(&serde_json::to_string(value)?)
}

/// Says something to the person: standard error.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// True where colours are welcome on standard output: a terminal, and no `NO_COLOR`.
pub fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// True where progress may be drawn.
pub fn progress() -> bool {
    io::stderr().is_terminal()
}

/// A table with a header, columns as wide as their widest cell. Cells are cleaned of control
/// characters: names from a registry must not move the cursor.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let clean = |cell: &str| cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|c| clean(c)).collect()).collect();
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|c| c.chars().count());
        cells.chain([header[i].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, w)| {
                format!("{cell}{}", " ".repeat(w.saturating_sub(cell.chars().count())))
            })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    let mut text = line(&head);
    for row in &rows {
        text.push('\n');
        text.push_str(&line(row));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn tables_align_and_cannot_move_the_cursor() {
        let rows = vec![vec!["a\u{1b}[2J".to_owned(), "b".to_owned()]];
        assert_eq!(super::table(&["IMAGE", "X"], &rows), "IMAGE  X\na?[2J  b\n");
    }
}
