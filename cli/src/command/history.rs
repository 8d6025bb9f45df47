//! `assay history` and `assay export`: what was observed and judged, oldest first.

use super::fleet::{self, Connection};
use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
};
use clap::ValueEnum;
use proto::v1;
use serde_json::Value;
use std::collections::BTreeMap;

/// Rows asked for in one call.
const ROWS: u32 = 500;

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A repository, or an image by digest.
    image: String,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
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

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// A repository, or an image by digest.
    image: String,
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
    match image.split_once('@') {
        Some(_) => super::status::by_digest(image),
        None => Ok((image.to_owned(), String::new())),
    }
}

/// Prints a table or one JSON value.
pub async fn run(args: Args) -> Outcome {
    let mut rows = Vec::new();
    let mut pages = Pages::new(&args.connection, &args.image, String::new())?;
    while let Some(page) = pages.next().await? {
        rows.extend(page);
    }
    if args.format == Format::Json {
        let value = serde_json::json!({"schema": "assay/history/v1", "rows": rows});
        output::json(&value)?;
        return Ok(0);
    }
    let text = |row: &Value, key: &str| match row.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let columns = ["observed_at", "kind", "platform", "operator", "attempt", "outcome", "role"];
    let table: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|c| text(row, c)).collect()).collect();
    let header = ["OBSERVED AT", "KIND", "PLATFORM", "OPERATOR", "ATTEMPT", "OUTCOME", "ROLE"];
    output::data(&output::table(&header, &table))?;
    Ok(0)
}

/// Prints rows as they come; the cursor to go on from goes to standard error.
pub async fn export(args: ExportArgs) -> Outcome {
    let mut pages = Pages::new(&args.connection, &args.image, args.cursor.clone())?;
    let mut header: Option<Vec<String>> = None;
    while let Some(page) = pages.next().await? {
        for row in page {
            match args.format {
                ExportFormat::Ndjson => output::json(&row)?,
                ExportFormat::Csv => {
                    let flat: BTreeMap<String, String> = flatten(&row);
                    let columns = match &header {
                        Some(columns) => columns.clone(),
                        None => {
                            let columns: Vec<String> = flat.keys().cloned().collect();
                            output::data(&csv_line(columns.iter().map(String::as_str)))?;
                            header = Some(columns.clone());
                            columns
                        }
                    };
                    let cells = columns.iter().map(|c| flat.get(c).map_or("", String::as_str));
                    output::data(&csv_line(cells))?;
                }
            }
        }
    }
    if !pages.cursor.is_empty() {
        output::say(&format!("cursor: {}", pages.cursor));
    }
    Ok(0)
}

fn flatten(row: &Value) -> BTreeMap<String, String> {
    let Value::Object(map) = row else { return BTreeMap::new() };
    let cell = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    map.iter().map(|(key, value)| (key.clone(), cell(value))).collect()
}

fn csv_line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = cells
        .map(|cell| {
            // A cell that a spreadsheet would run as a formula is made plain text.
            let guard = if cell.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
            if guard.is_empty() && !cell.contains([',', '"', '\n', '\r']) {
                cell.to_owned()
            } else {
                format!("\"{guard}{}\"", cell.replace('"', "\"\""))
            }
        })
        .collect();
    quoted.join(",")
}

struct Pages<'a> {
    connection: &'a Connection,
    repository: String,
    digest: String,
    cursor: String,
    done: bool,
}

impl<'a> Pages<'a> {
    fn new(connection: &'a Connection, image: &str, cursor: String) -> Result<Self, Failure> {
        let (repository, digest) = parts(image)?;
        Ok(Self { connection, repository, digest, cursor, done: false })
    }

    async fn next(&mut self) -> Result<Option<Vec<Value>>, Failure> {
        if self.done {
            return Ok(None);
        }
        let request = v1::HistoryRequest {
            repository: self.repository.clone(),
            digest: self.digest.clone(),
            cursor: self.cursor.clone(),
            rows_max: ROWS,
        };
        let answer = self.connection.images()?.history(request).await.map_err(fleet::failed)?;
        let answer = answer.into_inner();
        self.done = answer.next_cursor.is_empty();
        if !self.done {
            self.cursor = answer.next_cursor;
        }
        let rows = answer.rows.iter().map(|row| serde_json::from_slice(row));
        Ok(Some(rows.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn csv_cells_are_quoted_and_never_formulas() {
        let line = super::csv_line(["a", "b,c", "d\"e", "=1+1"].into_iter());
        assert_eq!(line, "a,\"b,c\",\"d\"\"e\",\"'=1+1\"");
    }
}
