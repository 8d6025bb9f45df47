//! docs/SUPPORT.md's table of versions is the code's, and each row names a result of the real apko
//! that shows it: with this one capability the other way round, the result does not come out.
//!
//! `ASSAY_WRITE_SUPPORT=1 cargo test -p assay-rebuild --test apko_vectors page` writes the table
//! anew, trying every capability against every result.

use super::versions::{behaviour, cases, check};
use rebuild::apko::behaviour::{
    Version,
    table::{Interval, Row, TABLE},
};
use std::fs;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SUPPORT.md");
const BEGIN: &str = "<!-- versions: written by a test -->";
const END: &str = "<!-- end of versions -->";
/// What a row says that no result of the fixtures depends on.
const NONE: &str = "none of the 83";

fn interval(interval: &Interval) -> String {
    let from = if interval.from == Version::new(0, 0, 0, 0) {
        String::new()
    } else {
        format!("{} ", interval.from)
    };
    match interval.until {
        None => format!("{from}on"),
        Some(until) => format!("{from}until before {until}"),
    }
}

/// A row of the page without its last column.
fn line(row: &Row) -> String {
    let intervals: Vec<String> = row.intervals.iter().map(interval).collect();
    format!("| `{}` | {} | {} |", row.name, intervals.join(", "), row.effect)
}

/// Every result that needs the capability as its version has it.
fn shown_by(row: &Row) -> Vec<String> {
    let needs = |(key, case): (String, serde_json::Value)| {
        let other = behaviour(&case).toggled(row.capability);
        check(&key, &case, other).is_err().then_some(key)
    };
    cases().into_iter().filter_map(needs).collect()
}

fn write() {
    let mut table = String::new();
    for row in TABLE {
        let shown = shown_by(row);
        let words = match shown.as_slice() {
            [] => NONE.to_owned(),
            [one] => format!("`{one}`"),
            [one, rest @ ..] => format!("`{one}` and {} more", rest.len()),
        };
        table.push_str(&format!("{} {words} |\n", line(row)));
    }
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let head = "| behaviour | apko | what it does | shown by |\n|---|---|---|---|\n";
    fs::write(PAGE, format!("{before}{BEGIN}\n{head}{table}{END}{after}")).unwrap();
}

#[test]
fn the_table_of_versions_is_the_code_and_is_shown() {
    if std::env::var_os("ASSAY_WRITE_SUPPORT").is_some() {
        write();
    }
    let page = fs::read_to_string(PAGE).unwrap();
    let cases = cases();
    for row in TABLE {
        let line = line(row);
        let found = page.lines().find_map(|found| found.strip_prefix(&line));
        let found = found.unwrap_or_else(|| panic!("expected in docs/SUPPORT.md: {line}"));
        if found.contains(NONE) {
            continue;
        }
        let key = found.split('`').nth(1).unwrap();
        let case = cases.get(key).unwrap_or_else(|| panic!("{key} is none of the results"));
        let other = behaviour(case).toggled(row.capability);
        assert!(check(key, case, other).is_err(), "{key} does not show {}", row.name);
    }
}
