//! docs/LOGGING.md and the `tracing` calls of the source agree.
//!
//! The calls are found in the text of the source: a call in any crate, whatever its level, must
//! have one sentence without a value inside, and fields that the page explains.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Fields that say why, in words; every other field is dotted.
const PLAIN: [&str; 4] = ["error", "problem", "reason", "why"];
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
const CRATES: [&str; 8] =
    ["attest", "oci", "gate", "rebuild", "proto", "coordinator", "worker", "cli"];

struct Call {
    place: String,
    fields: Vec<String>,
    message: Option<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The text between the parenthesis of a macro call, cut at its commas.
fn arguments(text: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for c in text.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            part.push(c);
            continue;
        }
        match c {
            ')' | ']' | '}' if depth == 0 => break,
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '"' => quoted = true,
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts.iter().map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

fn calls() -> Vec<Call> {
    let mut files = Vec::new();
    for name in CRATES {
        sources(&root().join(name).join("src"), &mut files);
    }
    let mut calls = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for level in LEVELS {
            let start = format!("tracing::{level}!(");
            for (at, _) in text.match_indices(&start) {
                let line = text[..at].lines().count();
                let mut fields = Vec::new();
                let mut message = None;
                for argument in arguments(&text[at + start.len()..]) {
                    match argument.strip_prefix('"') {
                        Some(rest) => message = Some(rest.trim_end_matches('"').to_owned()),
                        None => {
                            let name = argument.split('=').next().unwrap_or_default();
                            fields.push(name.trim().trim_start_matches(['%', '?']).to_owned());
                        }
                    }
                }
                calls.push(Call { place: format!("{}:{line}", file.display()), fields, message });
            }
        }
    }
    assert!(calls.len() > 30, "found only {} calls", calls.len());
    calls
}

#[test]
fn every_field_is_explained_and_every_message_is_one_sentence() {
    let page = fs::read_to_string(root().join("docs/LOGGING.md")).unwrap();
    let explained: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.contains('.') || PLAIN.contains(name))
        .collect();
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for Call { place, fields, message } in calls() {
        for field in fields {
            if !explained.contains(field.as_str()) {
                wrong.push(format!("{place}: docs/LOGGING.md does not explain {field}"));
            }
            if !field.contains('.') && !PLAIN.contains(&field.as_str()) {
                wrong.push(format!("{place}: expected a dotted field, found {field}"));
            }
            used.insert(field);
        }
        match message {
            None => wrong.push(format!("{place}: expected a message")),
            Some(text) if text.contains('{') || text.ends_with('.') || text.contains("\\n") => {
                wrong.push(format!("{place}: expected one sentence without values: {text:?}"));
            }
            Some(_) => {}
        }
    }
    for name in explained {
        if !used.contains(name) {
            wrong.push(format!("docs/LOGGING.md explains {name}, which is not logged"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn arguments_are_cut_where_they_end() {
    let found = arguments("a.b = %x(1, \"),\"), %error, \"one, sentence\"\n); rest(");
    assert_eq!(found, ["a.b = %x(1, \"),\")", "%error", "\"one, sentence\""]);
}
