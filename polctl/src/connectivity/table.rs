//! Tables: for terminals, for spreadsheets, for documents.

use comfy_table::{Table, presets};
use owo_colors::OwoColorize;

/// Aligned columns, the header in bold.
pub(crate) fn wide(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    for row in rows {
        table.add_row(row);
    }
    let mut text = String::new();
    for (index, line) in table.lines().enumerate() {
        let line = line.trim_end();
        if index == 0 {
            text += &line.bold().to_string();
        } else {
            text += line;
        }
        text.push('\n');
    }
    text
}

/// RFC 4180, with `\n` as line ends.
pub(crate) fn csv(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = header.join(",").to_lowercase();
    text.push('\n');
    for row in rows {
        let fields: Vec<String> = row.iter().map(|field| csv_field(&field.replace('\n', "; "))).collect();
        text += &fields.join(",");
        text.push('\n');
    }
    text
}

fn csv_field(field: &str) -> String {
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

/// A table of GitHub's Markdown.
pub(crate) fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let line = |fields: Vec<String>| format!("| {} |\n", fields.join(" | "));
    let mut text = line(header.iter().map(|&field| capitalised(field)).collect());
    text += &line(header.iter().map(|_| "---".to_owned()).collect());
    for row in rows {
        text += &line(row.iter().map(|field| markdown_field(field)).collect());
    }
    text
}

fn capitalised(word: &str) -> String {
    let lower = word.to_lowercase();
    let mut rest = lower.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

fn markdown_field(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    for c in field.chars() {
        match c {
            '\n' => text += "<br>",
            '<' => text += "&lt;",
            '&' => text += "&amp;",
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => text.extend(['\\', c]),
            _ => text.push(c),
        }
    }
    text
}
