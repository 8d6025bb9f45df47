//! Every test that docs/THREAT-MODEL.md names is there.

use std::{collections::BTreeSet, fs, path::Path};

/// The path of a source file at the start of a list, `` `gate/tests/it/network.rs`: ``.
fn source(word: &str) -> Option<&str> {
    word.strip_suffix(".rs").map(|_| word).filter(|word| word.contains('/'))
}

/// Each test with its file: `` `FILE`: `test`, `test` ``.
fn named(text: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut file = None;
    for (position, word) in text.split('`').enumerate() {
        let quoted = position % 2 == 1;
        match (quoted, source(word), &file) {
            (true, Some(path), _) => file = Some(path.to_owned()),
            (true, None, Some(path)) => {
                found.insert((path.clone(), word.to_owned()));
            }
            // What follows a name and is not the next one ends the list.
            (false, _, _) if !matches!(word.trim(), ":" | "," | "") => file = None,
            _ => {}
        }
    }
    found
}

#[test]
fn every_test_named_in_the_threat_model_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/THREAT-MODEL.md")).unwrap();
    let named = named(&text);
    assert!(named.len() > 40, "{} tests were found", named.len());
    let missing: Vec<String> = named
        .iter()
        .filter(|(file, test)| {
            let source = fs::read_to_string(root.join(file)).unwrap_or_default();
            let at = source.find(&format!("fn {test}("));
            let marked = |at: usize| {
                let before = &source[..at];
                let attributes = before.rfind("#[").map_or("", |start| &before[start..]);
                attributes.contains("test") && !attributes.contains('}')
            };
            !at.is_some_and(marked)
        })
        .map(|(file, test)| format!("{file}: {test}"))
        .collect();
    assert!(
        missing.is_empty(),
        "named in docs/THREAT-MODEL.md and not there:\n{}",
        missing.join("\n")
    );
}
