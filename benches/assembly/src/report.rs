//! The table of a run.
//!
//! Invariant: every ratio is to the baseline of the same run.

use super::measure::{Case, Measured};
use anyhow::{Result, ensure};
use std::io::Write as _;

/// The best of a case.
pub struct Row {
    case: Case,
    best: Measured,
    peak_kib: u64,
}

/// Takes a run into the rows; the digests of all cases must agree.
pub fn note(rows: &mut Vec<Row>, case: Case, measured: &Measured) -> Result<()> {
    for row in rows.iter() {
        let agree = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
        ensure!(
            agree(&row.best.config, &measured.config)
                && agree(&row.best.manifest, &measured.manifest),
            "{} and {} made different images",
            row.case.name(),
            case.name()
        );
    }
    match rows.iter_mut().find(|row| row.case == case) {
        Some(row) => {
            row.peak_kib = row.peak_kib.max(measured.peak_kib);
            if measured.seconds < row.best.seconds {
                row.best = measured.clone();
            }
        }
        None => rows.push(Row { case, best: measured.clone(), peak_kib: measured.peak_kib }),
    }
    Ok(())
}

fn baseline(rows: &[Row]) -> f64 {
    let found = rows.iter().find(|row| row.case == Case::Baseline);
    found.map_or(f64::NAN, |row| row.best.seconds)
}

/// The table, as Markdown.
pub fn table(rows: &[Row]) -> String {
    let unit = baseline(rows);
    let mut text =
        String::from("| case | seconds | B | process B | packages B | CPU B | peak MiB |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    for row in rows {
        let Measured { seconds, process_seconds, cpu_seconds, packages_seconds, .. } = row.best;
        text.push_str(&format!(
            "| {} | {seconds:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {} |\n",
            row.case.name(),
            seconds / unit,
            process_seconds / unit,
            packages_seconds / unit,
            cpu_seconds / unit,
            row.peak_kib >> 10
        ));
    }
    text
}

/// Ratios and memory by the number of packages, as Markdown.
pub fn growth(lines: &[(usize, Vec<Row>)]) -> String {
    let mut text = String::from("| packages | B s |");
    let Some((_, first)) = lines.first() else { return text };
    let measured = |row: &&Row| row.case != Case::Baseline;
    for row in first.iter().filter(measured) {
        text.push_str(&format!(" {} B | MiB |", row.case.name()));
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|---|".repeat(first.iter().filter(measured).count()));
    for (packages, rows) in lines {
        let unit = baseline(rows);
        text.push_str(&format!("\n| {packages} | {unit:.2} |"));
        for row in rows.iter().filter(measured) {
            let ratio = row.best.seconds / unit;
            text.push_str(&format!(" {ratio:.2} | {} |", row.peak_kib >> 10));
        }
    }
    text.push('\n');
    text
}

/// Prints to standard output.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end())?;
    Ok(())
}
