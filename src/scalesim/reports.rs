//! The three reports, in SCALE-Sim's own columns and numbers. Pure text: knows no files.

use std::fmt::Write as _;

use super::{Access, LayerReport, Operands};

/// The reports of a run, row by row.
#[derive(Clone, Debug)]
pub struct Reports {
    compute: String,
    bandwidth: String,
    access: String,
}

impl Default for Reports {
    fn default() -> Self {
        let operands = ["IFMAP", "FILTER", "OFMAP"];
        let mut bandwidth = "LayerID, ".to_owned();
        for level in ["SRAM", "DRAM"] {
            for operand in operands {
                let _ = write!(bandwidth, "Avg {operand} {level} BW, ");
            }
        }
        let mut access = "LayerID, ".to_owned();
        for level in ["SRAM", "DRAM"] {
            for (operand, moved) in [("IFMAP", "Reads"), ("Filter", "Reads"), ("OFMAP", "Writes")] {
                for what in ["Start Cycle", "Stop Cycle", moved] {
                    let _ = write!(access, "{level} {operand} {what}, ");
                }
            }
        }
        let compute = "LayerID, Total Cycles (incl. prefetch), Total Cycles, Stall Cycles, Overall Util %, Mapping \
                       Efficiency %, Compute Util %, ";
        let line = |text: &str| format!("{}\n", text.trim_end());
        Self { compute: line(compute), bandwidth: line(&bandwidth), access: line(&access) }
    }
}

impl Reports {
    /// Adds a layer's row to each.
    pub fn add(&mut self, id: usize, layer: &LayerReport) {
        let _ = writeln!(
            self.compute,
            "{id}, {}, {}, {}, {}, {}, {},",
            layer.total_with_prefetch,
            layer.total,
            layer.stalls,
            python_number(layer.overall_utilization),
            python_number(layer.mapping_efficiency),
            python_number(layer.compute_utilization)
        );
        let operands = |accesses: &Operands<Access>| [accesses.ifmap, accesses.filter, accesses.ofmap];
        let _ = write!(self.bandwidth, "{id}, ");
        // Between array and buffers it is over the run, between buffers and memory over the transfers.
        for access in operands(&layer.sram) {
            let _ = write!(self.bandwidth, "{}, ", python_number(access.words as f64 / layer.total as f64));
        }
        for access in operands(&layer.dram) {
            let _ = write!(self.bandwidth, "{}, ", python_number(access.bandwidth()));
        }
        let _ = write!(self.access, "{id}, ");
        for access in operands(&layer.sram).into_iter().chain(operands(&layer.dram)) {
            // Cycles come out of traces, which hold doubles.
            let _ = write!(self.access, "{}.0, {}.0, {}, ", access.start, access.stop, access.words);
        }
        for text in [&mut self.bandwidth, &mut self.access] {
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
    }

    /// Name and text of each file.
    pub fn files(&self) -> [(&'static str, &str); 3] {
        [
            ("COMPUTE_REPORT.csv", &self.compute),
            ("BANDWIDTH_REPORT.csv", &self.bandwidth),
            ("DETAILED_ACCESS_REPORT.csv", &self.access),
        ]
    }
}

/// A number as Python writes it: the fewest digits that read back, an exponent of two digits below 1e-4 and from 1e16.
pub fn python_number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || size == 0.0 || (1e-4..1e16).contains(&size) {
        let text = value.to_string();
        return if value.is_finite() && !text.contains('.') { text + ".0" } else { text };
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |exponent| ("-", exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        let cases = [
            (10.0, "10.0"),
            (0.0, "0.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-4, "0.0001"),
            (9.5e-5, "9.5e-05"),
            (1e-10, "1e-10"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e120, "1.5e+120"),
        ];
        for (number, text) in cases {
            assert_eq!(python_number(number), text);
        }
    }
}
