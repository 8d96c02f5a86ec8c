//! The reference page of configs, `docs/config.md`: what is written here about files, overrides and checks, and a row for
//! each field that `schema` declares.

use std::fmt::Write as _;

use super::{
    fields::{Kind, MAX_DEPTH, MAX_FILE_BYTES, MAX_VALUES, Modelled, quoted, rows, thousands},
    presets::presets,
};

const HEAD: &str = "\
# Accelerator configs

A config is a RON file that describes one accelerator. Give its path, or the name of a preset, wherever a command wants
CONFIG. This page is written from the declarations that check configs (`src/config/schema.rs`); a test keeps it up to date.

## Presets

| name | machine |
|---|---|
";

const OVERRIDES: &str = "
Start from a preset's text: each number has its source beside it, or is marked as ours.

## Overrides

`--set PATH=VALUE` sets one field after the file is read. Every path in the tables below works; the value is written as in
the file, without quotes round texts. Names of choices are matched without regard to case, here and in files; numbers are
plain: `131072`, not `128KiB` or `128 * 1024`. Later overrides win.

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
    "What is marked as not modelled is refused by name. A number that is marked as without effect is accepted, and listed in \
     the result (`not_modelled`) where it is not the default.",
    "`systole check` warns, and `run` goes on, where `accumulators.bits` is less than `array.column_bits`, and where `--set` \
     changes `array.rows` and leaves another `array.weight_load.cycles`.",
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
    let mut all = rows();
    let heads: Vec<String> = all.iter().filter_map(|row| Some(row.path.split_once('.')?.0.to_owned())).collect();
    let title_of = |path: &str| {
        let head = path.split('.').next().unwrap_or_default();
        if heads.iter().any(|known| known == head) { head.to_owned() } else { "the whole machine".to_owned() }
    };
    // The machine's own fields stand together, wherever the file has them.
    all.sort_by_key(|row| title_of(&row.path) != "the whole machine");
    for row in all {
        let (title, field) = (title_of(&row.path), row.field);
        if section != title {
            section.clone_from(&title);
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
        let default = match field.default {
            None => "required".to_owned(),
            Some(value) => format!("`{value}`"),
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {default} | {}{} |",
            row.path,
            value_column(&field.kind),
            field.unit,
            field.reason,
            mark(field.modelled)
        );
    }
    page
}

fn mark(modelled: Modelled) -> String {
    match modelled {
        Modelled::Yes => String::new(),
        Modelled::Listed(why) => format!("; without effect: {why}"),
        Modelled::Refused(what) => format!("; not modelled: {what}"),
    }
}

fn value_column(kind: &Kind) -> String {
    match kind {
        Kind::Choice(variants) if variants.iter().any(|variant| variant.refused) => {
            let refused = variants.iter().filter(|variant| variant.refused).map(|variant| variant.name);
            format!("{}; not modelled: {}", kind.expected(), quoted(refused))
        }
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
