//! Rows: every setting with its value and source, as a table or as JSON.

use std::io::{self, Write};

use serde_json::json;

use super::Source;
use crate::exit::{Exit, Failure};

/// One setting as the command `settings` prints it.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub value: String,
    pub source: Source,
}

/// Prints the rows to standard output.
pub fn print(rows: &[Row], json: bool) -> Result<(), Failure> {
    let text = match json {
        true => as_json(rows),
        false => as_table(rows),
    };
    io::stdout().write_all(text.as_bytes()).map_err(|cause| Failure::new(Exit::Io, format!("standard output: {cause}")))
}

fn as_json(rows: &[Row]) -> String {
    let one = |row: &Row| json!({ "name": row.name, "value": row.value, "source": row.source.to_string() });
    let list: Vec<serde_json::Value> = rows.iter().map(one).collect();
    format!("{:#}\n", serde_json::Value::Array(list))
}

fn as_table(rows: &[Row]) -> String {
    let width = |of: fn(&Row) -> &str| rows.iter().map(|row| of(row).len()).max().unwrap_or(0);
    let (names, values) = (width(|row| &row.name), width(|row| &row.value));
    let line = |row: &Row| format!("{:names$}  {:values$}  {}\n", row.name, row.value, row.source);
    rows.iter().map(line).collect()
}
