//! `assay history` and `assay export`: what was observed and judged, oldest first.
//!
//! Invariant: an export holds one page in memory, whatever its length; its columns are the
//! coordinator's (docs/SCHEMA.md), not those of the first row; no cell of a CSV becomes a formula.

use super::fleet::Connection;
use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
};
use clap::ValueEnum;
use oci::ImageReference;
use proto::v1::{self, image_service_client::ImageServiceClient};
use serde_json::Value;
use tonic::transport::Channel;

/// Rows asked for in one call.
const ROWS: u32 = 500;
/// The table that has something of everything.
const HISTORY: &str = "history";

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A repository, or an image by digest.
    image: String,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Goes on behind a cursor of an earlier call (JSON has it, and `export` says it).
    #[arg(long, default_value = "")]
    cursor: String,
    #[command(flatten)]
    connection: Connection,
}

/// Form of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One JSON object a line.
    #[default]
    Ndjson,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
}

/// A table of docs/SCHEMA.md.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Table {
    /// One row for each observation.
    #[default]
    Observations,
    /// The intervals in which verdicts stood.
    Verdicts,
    /// The steps of jobs.
    Transitions,
    /// The differences that explanations name.
    Diffs,
    /// The inputs of observations.
    Materials,
    /// The packages among them, by name and version.
    Packages,
    /// The changes of watched tags.
    Tags,
    /// Observations, verdicts and tags of one repository, in short.
    History,
}

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// A repository, or an image by digest; without it, everything.
    image: Option<String>,
    /// Which table.
    #[arg(long, value_enum, default_value_t)]
    table: Table,
    /// Form of the rows.
    #[arg(long, value_enum, default_value_t)]
    format: ExportFormat,
    /// Goes on behind a cursor of an earlier export.
    #[arg(long, default_value = "")]
    cursor: String,
    #[command(flatten)]
    connection: Connection,
}

fn parts(image: &str) -> Result<(String, String), Failure> {
    if image.contains('@') {
        return super::status::by_digest(image);
    }
    // A repository is what stands before a tag.
    let reference = format!("{image}:latest").parse::<ImageReference>().ok();
    let repository = reference.as_ref().and_then(ImageReference::repository);
    match repository.filter(|_| !image.starts_with("oci:")) {
        Some(repository) => Ok((repository.to_string(), String::new())),
        None => Err(Failure::Usage(format!(
            "expected a repository, or an image by digest, like registry.example/team/app or \
             registry.example/team/app@sha256:…, found {image:?}"
        ))),
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Says why there are no rows: the image is not known here, or this table has none of it.
async fn say_empty(connection: &Connection, image: &str, table: &str) -> Result<(), Failure> {
    let (repository, digest) = parts(image)?;
    if digest.is_empty() {
        // Of a repository only rows are known: an image of it may wait for its first ones.
        let mut pages = Pages::new(connection, Some(image), HISTORY, String::new())?;
        if table == HISTORY || pages.next().await?.is_none_or(|page| page.rows.is_empty()) {
            output::say(&format!(
                "nothing was observed or judged in {image}: nothing of it was submitted here, it is \
                 spelled otherwise, or it waits for its first answers"
            ));
            return Ok(());
        }
    } else if super::status::get(connection, &repository, &digest).await?.is_none() {
        output::say(&format!(
            "nothing is known of {image}: it was never submitted here, or is spelled otherwise"
        ));
        return Ok(());
    }
    output::say(&format!("{image} is known here, the table {table} has no rows of it so far"));
    Ok(())
}

/// Prints a table or one JSON value.
pub async fn run(args: Args) -> Outcome {
    let mut rows = Vec::new();
    let from = args.cursor.clone();
    let mut pages = Pages::new(&args.connection, Some(&args.image), HISTORY, from)?;
    while let Some(page) = pages.next().await? {
        rows.extend(page.rows);
    }
    if rows.is_empty() && args.cursor.is_empty() {
        say_empty(&args.connection, &args.image, HISTORY).await?;
    }
    if args.format == Format::Json {
        let value = serde_json::json!({
            "schema": "assay/history-list/v1", "image": args.image, "cursor": pages.cursor,
            "rows": rows,
        });
        output::json(&value)?;
        return Ok(0);
    }
    let cell = |row: &Value, key: &str| match text(row.get(key)) {
        empty if empty.is_empty() => "-".to_owned(),
        text => text,
    };
    let who = |row: &Value| match row.get("tag") {
        Some(Value::String(tag)) => format!(":{tag}"),
        _ => cell(row, "operator"),
    };
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let columns = ["observed_at", "kind", "platform"].map(|c| cell(row, c));
            let rest = ["attempt", "outcome", "role", "manifest_digest"].map(|c| cell(row, c));
            columns.into_iter().chain([who(row)]).chain(rest).collect()
        })
        .collect();
    let header = ["OBSERVED AT", "KIND", "PLATFORM", "WHO", "ATTEMPT", "OUTCOME", "ROLE", "IMAGE"];
    output::data(&output::table(&header, &table))?;
    Ok(0)
}

/// Prints rows as they come; the cursor to go on from goes to standard error.
pub async fn export(args: ExportArgs) -> Outcome {
    let table = args.table.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
    let image = args.image.as_deref();
    let mut pages = Pages::new(&args.connection, image, &table, args.cursor.clone())?;
    let (mut headed, mut empty) = (false, args.cursor.is_empty());
    while let Some(page) = pages.next().await? {
        if args.format == ExportFormat::Csv && !headed {
            let header: Vec<Value> = page.columns.iter().map(|c| c.as_str().into()).collect();
            output::data(&csv_line(header.iter().map(Some)))?;
            headed = true;
        }
        empty &= page.rows.is_empty();
        for row in &page.rows {
            if output::is_unread() {
                return Ok(0);
            }
            match args.format {
                ExportFormat::Ndjson => output::json(row)?,
                ExportFormat::Csv => {
                    output::data(&csv_line(page.columns.iter().map(|c| row.get(c))))?;
                }
            }
        }
    }
    if let Some(image) = args.image.as_deref().filter(|_| empty) {
        say_empty(&args.connection, image, &table).await?;
    }
    output::say(&format!("cursor: {}", pages.cursor));
    Ok(0)
}

/// Cells of one record. A text that a spreadsheet would run as a formula is made plain text; numbers
/// are what they are.
fn csv_line<'a>(cells: impl Iterator<Item = Option<&'a Value>>) -> String {
    let quoted: Vec<String> = cells
        .map(|value| {
            let cell = text(value);
            let formula = matches!(value, Some(Value::String(_)))
                && cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
            let guard = if formula { "'" } else { "" };
            if guard.is_empty() && !cell.contains([',', '"', '\n', '\r']) {
                cell
            } else {
                format!("\"{guard}{}\"", cell.replace('"', "\"\""))
            }
        })
        .collect();
    quoted.join(",")
}

/// Pages of one table, over one connection.
struct Pages<'a> {
    connection: &'a Connection,
    client: ImageServiceClient<Channel>,
    request: v1::HistoryRequest,
    /// Where the last page ended.
    cursor: String,
    done: bool,
}

struct Page {
    rows: Vec<Value>,
    columns: Vec<String>,
}

impl<'a> Pages<'a> {
    fn new(
        connection: &'a Connection,
        image: Option<&str>,
        table: &str,
        cursor: String,
    ) -> Result<Self, Failure> {
        let (repository, digest) = image.map(parts).transpose()?.unwrap_or_default();
        let table = table.to_owned();
        let request = v1::HistoryRequest {
            repository,
            digest,
            cursor: cursor.clone(),
            rows_max: ROWS,
            table,
        };
        let client = connection.images()?;
        Ok(Self { connection, client, request, cursor, done: false })
    }

    async fn next(&mut self) -> Result<Option<Page>, Failure> {
        if self.done {
            return Ok(None);
        }
        self.request.cursor.clone_from(&self.cursor);
        let call = self.client.history(self.request.clone());
        let answer = self.connection.ask_long(call).await?;
        self.done = answer.next_cursor.is_empty();
        if !answer.end_cursor.is_empty() {
            self.cursor = answer.end_cursor;
        }
        let rows = answer.rows.iter().map(|row| serde_json::from_slice(row));
        let rows = rows.collect::<Result<_, _>>()?;
        Ok(Some(Page { rows, columns: answer.columns }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn csv_cells_are_quoted_and_never_formulas() {
        let cells =
            [json!("a"), json!("b,c"), json!("d\"e"), json!("=1+1"), json!("\t=1"), json!(-5)];
        let line = super::csv_line(cells.iter().map(Some).chain([None, Some(&json!(null))]));
        assert_eq!(line, "a,\"b,c\",\"d\"\"e\",\"'=1+1\",\"'\t=1\",-5,,");
    }
}
