//! Tables of published figures: those that come with the program, or a user's of the same names. CSV with a heading; lines that
//! begin with `#` say where the figures are from.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use csv::StringRecord;

use crate::diag::{Diagnostic, Faults};

/// Largest table, in bytes.
const MOST_BYTES: u64 = 16 << 20;

/// Name and text of each table.
const TABLES: [(&str, &str); 6] = [
    ("os_array_rtl.csv", include_str!("published/os_array_rtl.csv")),
    ("ws_array_rtl.csv", include_str!("published/ws_array_rtl.csv")),
    ("scalesim_layers.csv", include_str!("../../tests/scalesim/layers.csv")),
    ("onnxim.csv", include_str!("published/onnxim.csv")),
    ("tpu_v1.csv", include_str!("published/tpu_v1.csv")),
    ("gemmini_ladder.csv", include_str!("published/gemmini_ladder.csv")),
];

/// Others' figures.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Where to look first.
    folder: Option<PathBuf>,
}

impl Published {
    /// Tables of a folder in place of those of the same names that come with the program.
    ///
    /// # Errors
    /// A folder that has none of them.
    pub fn in_folder(folder: &Path) -> Result<Self, Faults> {
        if TABLES.iter().any(|(name, _)| folder.join(name).is_file()) {
            return Ok(Self { folder: Some(folder.to_path_buf()) });
        }
        let names: Vec<String> = TABLES.iter().map(|(name, _)| format!("`{name}`")).collect();
        Err(Diagnostic::error("no table of published figures is in this folder")
            .with_file(folder)
            .with_help(format!("give one of them the name of the table that it replaces: {}", names.join(", ")))
            .into())
    }

    /// The table of a name.
    pub(super) fn table(&self, name: &str) -> Result<Table, Faults> {
        if let Some(path) = self.folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.is_file()) {
            let fault = |message: String| Faults::from(Diagnostic::error(message).with_file(&path));
            let unread = |error: std::io::Error| fault(format!("cannot read the table: {error}"));
            if fs::metadata(&path).map_err(unread)?.len() > MOST_BYTES {
                return Err(fault("a table is a file of at most 16 MiB".to_owned()));
            }
            return Table::read(&path.display().to_string(), &fs::read_to_string(&path).map_err(unread)?);
        }
        let text = TABLES.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text);
        Table::read(name, text)
    }
}

/// A table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    name: String,
    heading: StringRecord,
    records: Vec<StringRecord>,
}

impl Table {
    fn read(name: &str, text: &str) -> Result<Self, Faults> {
        let fault = |error: csv::Error| Faults::from(Diagnostic::error(error.to_string()).with_file(name));
        let mut reader =
            csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(text.as_bytes());
        let heading = reader.headers().map_err(fault)?.clone();
        let records = reader.records().collect::<Result<Vec<_>, _>>().map_err(fault)?;
        Ok(Self { name: name.to_owned(), heading, records })
    }

    /// The lines behind the heading.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.records.iter().map(|record| Line { table: self, record })
    }
}

/// A line of a table, its fields by the heading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    table: &'a Table,
    record: &'a StringRecord,
}

impl<'a> Line<'a> {
    /// A field as it stands.
    pub fn text(&self, column: &str) -> Result<&'a str, Faults> {
        let at = self.table.heading.iter().position(|name| name == column);
        at.and_then(|at| self.record.get(at)).ok_or_else(|| {
            Diagnostic::error(format!("no column is named `{column}`")).with_file(&self.table.name).into()
        })
    }

    fn parsed<T: FromStr>(&self, column: &str, expected: &str) -> Result<T, Faults> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.fault(column, &format!("expected {expected}, found `{text}`")))
    }

    /// A whole number.
    pub fn count(&self, column: &str) -> Result<u64, Faults> {
        self.parsed(column, "a whole number")
    }

    /// Any number.
    pub fn real(&self, column: &str) -> Result<f64, Faults> {
        let value: f64 = self.parsed(column, "a number")?;
        if value.is_finite() { Ok(value) } else { Err(self.fault(column, "expected a finite number")) }
    }

    /// What is wrong with a field.
    pub fn fault(&self, column: &str, message: &str) -> Faults {
        let line = self.record.position().map_or(0, csv::Position::line);
        Diagnostic::error(format!("line {line}: {message}")).with_path(column).with_file(&self.table.name).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_lines_and_says_where_it_is_from() {
        for (name, text) in TABLES {
            assert!(Published::default().table(name).unwrap().lines().count() > 1, "{name}");
            // SCALE-Sim's own layers are described in `docs/scalesim.md`.
            assert!(text.starts_with('#') || name == "scalesim_layers.csv", "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place() {
        let table = Table::read("x.csv", "# from nowhere\nM,cycles\n5,x\n").unwrap();
        let line = table.lines().next().unwrap();
        assert_eq!(line.count("M").unwrap(), 5);
        let fault = line.count("cycles").unwrap_err().to_string();
        assert_eq!(fault, "x.csv: cycles: line 3: expected a whole number, found `x`");
        assert!(line.text("K").unwrap_err().to_string().contains("no column is named `K`"));
        assert!(Table::read("x.csv", "M,N\n1\n").is_err());
    }
}
