//! Writes every mutant that `cargo mutants --list --json` names into one copy of the source, each
//! behind a switch that reads its number from the environment: one build for all of them.
//!
//! `assay-schemata LIST FROM TO LEFT`: LIST is the list, FROM the tree that it was made of, TO a
//! copy of it whose files are written anew, LEFT a file with the numbers of mutants to leave out
//! (and `file:function` of functions that must stay `const`). A mutant's number is its place in
//! LIST, from 1. Prints, with lines of the files as they are written:
//! - `A NUMBER FILE FIRST LAST`: an alternative; what does not compile in it is not viable;
//! - `S FILE FIRST LAST NUMBER,NUMBER...`: a switch; what does not compile in it, but outside of
//!   its alternatives, cannot be written as a switch;
//! - `L NUMBER WHY`: a mutant that cannot be written as a switch, or is no Rust (`let-chain`).
//!
//! Invariant: an alternative is the stock tool's text, character by character, parsed whole. It
//! must never differ from what the stock tool compiles.

mod places;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    ops::Range,
};

/// One entry of the list.
pub struct Mutant {
    /// Its place in the list.
    pub number: usize,
    /// What kind of change it is.
    pub genre: String,
    /// What is replaced, and with what.
    pub bytes: Range<usize>,
    /// The new text.
    pub replacement: String,
}

fn offset(source: &str, line: u64, column: u64) -> usize {
    let start: usize = source.split_inclusive('\n').take(line as usize - 1).map(str::len).sum();
    let rest = &source[start..];
    start + rest.char_indices().nth(column as usize - 1).map_or(rest.len(), |(at, _)| at)
}

fn mutant(number: usize, value: &serde_json::Value, source: &str) -> Option<Mutant> {
    let at = |end: &str| {
        let place = &value["span"][end];
        Some(offset(source, place["line"].as_u64()?, place["column"].as_u64()?))
    };
    Some(Mutant {
        number,
        genre: value["genre"].as_str()?.to_owned(),
        bytes: at("start")?..at("end")?,
        replacement: value["replacement"].as_str()?.to_owned(),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, list, from, to, left] = &args[..] else {
        return Err("expected LIST FROM TO LEFT".into());
    };
    let list: Vec<serde_json::Value> = serde_json::from_str(&fs::read_to_string(list)?)?;
    let left = fs::read_to_string(left)?;
    let left: BTreeSet<&str> = left.split_whitespace().collect();
    let mut files: BTreeMap<&str, Vec<(usize, &serde_json::Value)>> = BTreeMap::new();
    for (n, value) in list.iter().enumerate() {
        let file = value["file"].as_str().ok_or("expected a file in each entry of the list")?;
        files.entry(file).or_default().push((n + 1, value));
    }
    for (file, values) in files {
        let source = fs::read_to_string(format!("{from}/{file}"))?;
        let mut mutants = Vec::new();
        for (number, value) in values {
            if !left.contains(number.to_string().as_str()) {
                let read = mutant(number, value, &source);
                mutants.push(read.ok_or("expected span, genre and replacement in each entry")?);
            }
        }
        let written = writer::write(file, &source, &mutants, &left)?;
        fs::write(format!("{to}/{file}"), written.text)?;
        println!("{}", written.report.join("\n"));
    }
    Ok(())
}
