//! The reference page of config fields, `docs/config.md`, written from the table in `fields`.

use std::fmt::Write as _;

use super::{
    fields::{Kind, MAX_DEPTH, MAX_FILE_BYTES, MAX_VALUES, rows, thousands},
    presets::presets,
};

const HEAD: &str = "\
# Accelerator configs

A config is a RON file that describes one accelerator. Give its path, or the name of a preset, wherever a command wants
CONFIG. This page is written from the table that checks configs (`src/config/table.rs`); a test keeps it up to date.

## Presets

| name | machine |
|---|---|
";

const OVERRIDES: &str = "
Start from a preset's text: each number has its source beside it, or is marked as ours.

## Overrides

`--set PATH=VALUE` sets one field after the file is read. Every path in the tables below works; the value is written as in
the file, without quotes round texts. Later overrides win.

```
--set array.rows=32
--set array.dataflows=[WS,OS]
--set buffers.layout.Shared.bytes=65536
--set buffers.layout=Split(input:(bytes:65536),weight:(bytes:65536),output:(bytes:32768))
--set memories.0.model.Ideal.latency_ns=50      items count from 0
--set memories.DDR4.model.Ideal.latency_ns=50   or go by their name
--set vector.cycles.AvgPool=1                   changes a function's cost, or adds the function
--set vector.requantizer=FixedMul(bits:16,max_shift:31,rounding:HalfUp)
```

A path into a choice names the variant that the config has now; to change the variant, set the choice as a whole.

## Checks

All faults are reported at once, each with its place, what was expected and what to do. Beside the ranges below:
";

const CHECKS: &[&str] = &[
    "Numbers must be finite.",
    "`placement` names memories that exist; their names differ.",
    "Operand types are both integer (executed bit for bit) or both float (timed only).",
    "`array.max_stream` is 0 or at least `array.min_stream`; no dataflow is listed twice.",
    "One array tile with one streamed row fits in the buffers, in every dataflow that is listed. Elements of inputs, \
     weights and accumulators: WS `rows`, `rows*cols`, `cols`; OS `rows`, `cols`, `rows*cols`; IS `rows*cols`, `rows`, \
     `cols`; besides, 12 bytes of parameters and one output a column.",
    "`vector.cycles` lists `Requantize`, and `Depthwise` if `depthwise` is `Vector`; no function twice.",
    "Not modelled yet, and refused: `array.kind: DotTree`, `array.count` above 1.",
];

/// The page as Markdown.
pub fn reference_page() -> String {
    let mut page = HEAD.to_owned();
    for preset in presets() {
        let _ = writeln!(page, "| `{}` | {} |", preset.name, preset.summary);
    }
    page.push_str(OVERRIDES);
    page.push('\n');
    for check in CHECKS {
        let _ = writeln!(page, "- {check}");
    }
    let _ = writeln!(
        page,
        "- A file has at most {} bytes and {} values, nested at most {MAX_DEPTH} deep.",
        thousands(MAX_FILE_BYTES),
        thousands(MAX_VALUES as u64)
    );
    page.push_str("\n## Fields\n\nA field without a default must be given. `*` stands for a list item's position.\n");
    let mut section = String::new();
    for row in rows() {
        let head = row.path.split('.').next().unwrap_or_default();
        let nested = row.path.contains('.') || rows().iter().any(|other| other.path.starts_with(&format!("{head}.")));
        let title = if nested { head } else { "the whole machine" };
        if section != title {
            title.clone_into(&mut section);
            let _ = write!(
                page,
                "\n### {title}\n\n| field | value | unit | default | meaning and reason |\n|---|---|---|---|---|\n"
            );
        }
        // The three buffers of a split have the fields of the shared one.
        if row.path.starts_with("buffers.layout.Split.") {
            if row.path.ends_with("input.bytes") {
                page.push_str(
                    "| `buffers.layout.Split.input.*`, `.weight.*`, `.output.*` | | | | the fields of \
                     `buffers.layout.Shared`, for each buffer |\n",
                );
            }
            continue;
        }
        let default = match row.default {
            None => "required".to_owned(),
            Some(words) if words.contains(' ') => words.to_owned(),
            Some(value) => format!("`{value}`"),
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {default} | {} |",
            row.path,
            value_column(row.kind),
            row.unit,
            row.reason
        );
    }
    page
}

fn value_column(kind: &Kind) -> String {
    match kind {
        Kind::List { item: Kind::Group(_), min, max, .. } => format!("a list of {min} to {max} groups of fields"),
        Kind::List { item: Kind::Pair(first, second), min, max, .. } => {
            format!("a list of {min} to {max} pairs: {}; {}", first.expected(), second.expected())
        }
        Kind::List { item, min, max, .. } => format!("a list of {min} to {max}, each {}", item.expected()),
        other => other.expected(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_up_to_date() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, reference_page()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == reference_page(), "run `UPDATE_DOCS=1 cargo test --lib config::reference`");
    }
}
