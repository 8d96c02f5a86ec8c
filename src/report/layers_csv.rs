//! `layers.csv`: one row a layer, the nested fields flattened to one column each.

use serde_json::Value;

use crate::result::{LayerResult, RunResult};

/// What can go wrong while the columns are written.
#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    /// The CSV writer refused a record.
    #[error("cannot write layers.csv: {0}")]
    Csv(#[from] csv::Error),
    /// A layer is no plain data.
    #[error("cannot write layers.csv: {0}")]
    Json(#[from] serde_json::Error),
}

/// The layers as CSV with a header. The columns are `index` (from 0, program order) and the keys of a layer in the
/// record; those of a nested key are joined to it by `_`: `causes_weight_load`, `traffic_moved_bytes`.
/// A number that is not finite is an empty field.
///
/// # Errors
/// None in practice: the writer's, passed on.
pub fn csv(result: &RunResult) -> Result<Vec<u8>, CsvError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(std::iter::once("index".to_owned()).chain(columns()?))?;
    for (index, layer) in result.layers.iter().enumerate() {
        let mut fields = vec![("index".to_owned(), index.to_string())];
        flatten("", serde_json::to_value(layer)?, &mut fields);
        writer.write_record(fields.iter().map(|(_, field)| field))?;
    }
    writer.into_inner().map_err(|error| CsvError::Csv(error.into_error().into()))
}

/// Names of a layer's columns, without `index`.
fn columns() -> Result<Vec<String>, CsvError> {
    let mut fields = Vec::new();
    flatten("", serde_json::to_value(LayerResult::default())?, &mut fields);
    Ok(fields.into_iter().map(|(name, _)| name).collect())
}

/// Adds a column for each leaf, in the order of the record.
fn flatten(name: &str, value: Value, fields: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let name = if name.is_empty() { key } else { format!("{name}_{key}") };
                flatten(&name, member, fields);
            }
        }
        Value::String(text) => fields.push((name.to_owned(), text)),
        Value::Null => fields.push((name.to_owned(), String::new())),
        other => fields.push((name.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::sample, result::Cause};

    #[test]
    fn every_row_has_the_header_s_columns_and_the_record_s_numbers() {
        let result = sample::run(7);
        let bytes = csv(&result).unwrap();
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let header = reader.headers().unwrap().clone();
        let column = |name: &str| header.iter().position(|column| column == name).unwrap();
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 7);
        for (index, (row, layer)) in rows.iter().zip(&result.layers).enumerate() {
            assert_eq!(row[column("index")], index.to_string());
            assert_eq!(row[column("name")], layer.name);
            assert_eq!(row[column("traffic_moved_bytes")], layer.traffic.moved_bytes.to_string());
            assert_eq!(row[column("causes_move")], layer.causes[Cause::Move].to_string());
            let utilization: f64 = row[column("array_utilization")].parse().unwrap();
            assert_eq!(utilization.to_bits(), layer.array_utilization.to_bits());
        }
        assert_eq!(header.iter().filter(|name| name.starts_with("causes_")).count(), 11);
    }

    #[test]
    fn no_layers_still_have_a_header() {
        let text = String::from_utf8(csv(&sample::run(0)).unwrap()).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("index,name,op,runs_on,"), "{text}");
    }

    #[test]
    fn a_name_with_commas_quotes_and_newlines_reads_back() {
        let mut result = sample::run(1);
        result.layers[0].name = "a,\"b\"\nc".to_owned();
        let bytes = csv(&result).unwrap();
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        assert_eq!(&reader.records().next().unwrap().unwrap()[1], "a,\"b\"\nc");
    }
}
