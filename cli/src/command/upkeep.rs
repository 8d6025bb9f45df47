//! `assay coordinator reindex|fsck|backup|restore`: looks after a coordinator's data.
//!
//! Invariant: thin: every decision is `coordinator::upkeep`'s. A record is given up only with
//! `--cut-at` and `--accept-loss` together.

use super::named;
use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
    progress::Steps,
};
use coordinator::upkeep::{self, UpkeepError, backup, cut, data_folder, fsck};
use std::path::{Path, PathBuf};

/// Arguments of `coordinator fsck`.
#[derive(Debug, clap::Args)]
pub struct FsckArgs {
    /// The coordinator's folder, or a backup.
    dir: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Gives up every record from this position on, as the refusal of a start names it. What is cut
    /// is kept in a folder beside the journal, with a report.
    #[arg(long, requires = "accept_loss")]
    cut_at: Option<u64>,
    /// Says that the loss of what `--cut-at` cuts is accepted.
    #[arg(long, requires = "cut_at")]
    accept_loss: bool,
}

/// A failure with what can be done about it.
pub fn failed(error: &UpkeepError) -> Failure {
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    Failure::Operation(anyhow::anyhow!("{error}{hint}"))
}

/// Makes the index again.
pub fn reindex(dir: &Path) -> Outcome {
    named::folder("DIR", dir)?;
    let steps = Steps::new("reindex");
    let done = upkeep::reindex(&data_folder(dir), |at, end| steps.at("record", at.0, Some(end.0)));
    let done = done.map_err(|error| failed(&error))?;
    drop(steps);
    if let Some(cut) = &done.recovery.cut {
        output::say(&format!(
            "cut a torn tail of {} bytes in {}: nothing in it was acknowledged",
            cut.bytes, cut.segment
        ));
    }
    output::data(&format!("the index follows the journal to its end, position {}", done.end))?;
    Ok(0)
}

/// Examines the data, or cuts.
pub fn examine(args: &FsckArgs) -> Outcome {
    let data = data_folder(&args.dir);
    if let Some(position) = args.cut_at {
        return give_up(&data, position, args.format);
    }
    let steps = Steps::new("fsck");
    let report = fsck::fsck(&data, |at| steps.at("record", at.0, None));
    let report = report.map_err(|error| failed(&error))?;
    drop(steps);
    match args.format {
        Format::Json => output::json(&report)?,
        Format::Text => output::data(&in_words(&report))?,
    }
    Ok(report.exit_code())
}

fn in_words(report: &fsck::Report) -> String {
    let journal = &report.journal;
    let mut lines = vec![format!(
        "journal: {}: {} records in {} segments, {} bytes{}",
        if journal.good { "good" } else { "DAMAGED" },
        journal.records,
        journal.segments,
        journal.bytes,
        journal.floor.map_or(String::new(), |at| format!(", promised to others: {at}")),
    )];
    if journal.torn_bytes > 0 {
        lines.push(format!(
            "         {} bytes of a torn tail, which the next start cuts: nothing in it was \
             acknowledged",
            journal.torn_bytes
        ));
    }
    if let Some(fault) = &journal.fault {
        lines.push(format!("         {fault}"));
        lines.push(format!(
            "         behind it: {} records that can be read by themselves, {} whole files",
            journal.readable_behind,
            journal.files_behind.len()
        ));
    }
    lines.extend(journal.hint.iter().map(|hint| format!("hint:    {hint}")));
    lines.push(match &report.index {
        fsck::IndexReport::Good { rows, reached } => {
            format!("index:   good: {rows} rows, followed to {reached}")
        }
        fsck::IndexReport::Missing => "index:   none; the next start makes it".to_owned(),
        fsck::IndexReport::Doubt { why } => {
            format!("index:   in doubt: {why}; `assay coordinator reindex DIR` makes it again")
        }
        fsck::IndexReport::NotExamined => "index:   not examined".to_owned(),
    });
    lines.join("\n")
}

fn give_up(data: &Path, position: u64, format: Format) -> Outcome {
    let report = cut::cut(data, position, super::fleet::now()?).map_err(|error| failed(&error))?;
    match format {
        Format::Json => output::json(&report)?,
        Format::Text => output::data(&format!(
            "the journal ends at position {} now; what was behind it is kept in {} (report.json \
             says what). Others may hold receipts for it: tell them",
            report.position,
            report.kept_in.display()
        ))?,
    }
    Ok(0)
}

/// Copies the journal.
pub fn back_up(dir: &Path, target: &Path) -> Outcome {
    named::folder("DIR", dir)?;
    let steps = Steps::new("backup");
    let now = super::fleet::now()?;
    let list = backup::backup(&data_folder(dir), target, now, |done| steps.at("byte", done, None));
    let list = list.map_err(|error| failed(&error))?;
    drop(steps);
    output::data(&format!(
        "{}: {} records in {} files. Keys and configuration are not in it",
        target.display(),
        list.end,
        list.files.len()
    ))?;
    Ok(0)
}

/// Puts a backup in place.
pub fn restore(from: &Path, dir: &Path) -> Outcome {
    named::folder("BACKUP", from)?;
    let steps = Steps::new("restore");
    let list = backup::restore(from, &data_folder(dir), |done| steps.at("byte", done, None));
    let list = list.map_err(|error| failed(&error))?;
    drop(steps);
    output::data(&format!(
        "{}: {} records, verified. Workers that hold receipts for later ones send those results \
         again",
        dir.display(),
        list.end
    ))?;
    Ok(0)
}
