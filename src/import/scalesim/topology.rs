//! The text of a topology, and what its rows say. Knows no graph.

use std::{fs, io::Read, ops::Range, path::Path, sync::Arc};

use crate::diag::{Diagnostic, Faults, Source};

/// Largest file, in bytes.
const MAX_BYTES: u64 = 16 << 20;
/// Most layers; the largest published topology has 1,103.
const MAX_LAYERS: usize = 1 << 16;
/// Largest size of anything.
const MAX_SIZE: u64 = 1 << 31;
/// Rows of more bytes than this are named by their number alone.
const SHOWN_BYTES: usize = 400;

/// What the columns are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Convolutions.
    Convolutions,
    /// Products of matrices: `M, N, K`.
    Products,
}

impl Form {
    const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Convolutions => {
                &["ifmap height", "ifmap width", "filter height", "filter width", "channels", "filters", "stride"]
            }
            Self::Products => &["M", "N", "K"],
        }
    }
}

/// A convolution over a map that is padded already, as SCALE-Sim sees it: sizes of outputs are rounded **up**, so a
/// window at the end may leave the map. A product `[M, K] x [K, N]` is one of a map of `M x K` with filters of `1 x K`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Height and width of the map.
    pub ifmap: [u64; 2],
    /// Height and width of the filter, not larger than the map.
    pub filter: [u64; 2],
    /// Channels.
    pub channels: u64,
    /// Filters.
    pub filters: u64,
    /// Stride, both ways.
    pub stride: u64,
}

impl Convolution {
    /// A product `[m, k] x [k, n]`.
    pub const fn product(m: u64, n: u64, k: u64) -> Self {
        Self { ifmap: [m, k], filter: [1, k], channels: 1, filters: n, stride: 1 }
    }

    /// Height and width of the output: `ceil((H - fh + s) / s)`.
    pub fn output(&self) -> [u64; 2] {
        [0, 1].map(|axis| (self.ifmap[axis] - self.filter[axis]).div_ceil(self.stride) + 1)
    }

    /// Whether every window lies inside the map, so that sizes of outputs are not rounded.
    pub fn inside(&self) -> bool {
        [0, 1].iter().all(|&axis| (self.ifmap[axis] - self.filter[axis]).is_multiple_of(self.stride))
    }

    /// Whether no two windows share a word.
    pub fn disjoint(&self) -> bool {
        let output = self.output();
        [0, 1].iter().all(|&axis| self.stride >= self.filter[axis] || output[axis] == 1)
    }

    /// Row and column of the map where a window begins.
    fn origin(&self, window: u64) -> [u64; 2] {
        let [_, width] = self.output();
        [window / width * self.stride, window % width * self.stride]
    }

    /// The address of a product's input, channels fastest: `(h W + w) C + c`. `None` outside the map.
    pub fn address(&self, window: u64, product: u64) -> Option<u64> {
        self.runs(window, product..product + 1).next().map(|run| run.start)
    }

    /// The addresses of some of a window's products, as runs of neighbours: one for each row of the filter.
    pub fn runs(&self, window: u64, products: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let [row, col] = self.origin(window);
        let length = self.filter[1] * self.channels;
        let rows = self.ifmap[0].saturating_sub(row).min(products.end.div_ceil(length));
        let right = self.ifmap[1].saturating_sub(col) * self.channels;
        let (width, channels) = (self.ifmap[1], self.channels);
        (products.start / length..rows).filter_map(move |kernel_row| {
            let from = products.start.saturating_sub(kernel_row * length);
            let to = (products.end - kernel_row * length).min(length).min(right);
            let begin = ((row + kernel_row) * width + col) * channels;
            (from < to).then_some(begin + from..begin + to)
        })
    }

    /// The last product of a window whose input exists.
    pub fn last_product(&self, window: u64) -> Option<u64> {
        let [row, col] = self.origin(window);
        let rows = self.ifmap[0].saturating_sub(row).min(self.filter[0]);
        let cols = self.ifmap[1].saturating_sub(col).min(self.filter[1]);
        (rows > 0 && cols > 0).then(|| ((rows - 1) * self.filter[1] + cols) * self.channels - 1)
    }

    /// The last window in which a product's input exists.
    pub fn last_window(&self, product: u64) -> Option<u64> {
        let tap = product / self.channels;
        let [height, width] = self.output();
        let within = |axis: usize, tap: u64, extent: u64| {
            let last = self.ifmap[axis].checked_sub(tap + 1)?;
            Some((last / self.stride).min(extent - 1))
        };
        Some(within(0, tap / self.filter[1], height)? * width + within(1, tap % self.filter[1], width)?)
    }
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name as written; names may repeat.
    pub name: String,
    /// Its line, from 1.
    pub line: usize,
    /// What it computes.
    pub convolution: Convolution,
}

/// A topology, as far as it could be read.
#[derive(Clone, Debug)]
pub struct Topology {
    /// What the rows were read as.
    pub form: Form,
    /// Its layers, in the order of the file.
    pub layers: Vec<Layer>,
    /// Rows that could not be read, and what else the user should know.
    pub findings: Vec<Diagnostic>,
    /// The whole text.
    pub text: String,
}

/// Reads a topology. Without a form, its heading decides: `M, N, K` behind the name is one of products.
///
/// # Errors
/// A file that cannot be read or is too large, and one without a single readable row.
pub fn read(path: &Path, form: Option<Form>) -> Result<Topology, Faults> {
    let fault = |message: String| Faults::from(Diagnostic::error(message).with_file(path));
    // A pipe would be waited for, so what it is comes first.
    let metadata = fs::metadata(path).map_err(|error| fault(format!("cannot open the topology: {error}")))?;
    if !metadata.is_file() {
        return Err(fault("a topology is a file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| fault(format!("cannot open the topology: {error}")))?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fault(format!("cannot read the topology: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fault("a topology has at most 16 MiB".to_owned()));
    }
    // Headings of published topologies hold bytes of other encodings; sizes are ASCII.
    let topology = parse(&String::from_utf8_lossy(&bytes), &path.display().to_string(), form);
    if topology.layers.is_empty() {
        let mut faults = topology.findings;
        faults.truncate(20);
        faults.push(
            Diagnostic::error("no row of the topology can be read")
                .with_file(path)
                .with_help(format!("a row is a name and {}", topology.form.columns().join(", "))),
        );
        return Err(Faults(faults));
    }
    Ok(topology)
}

/// The rows of a text; `name` stands for the file in findings.
pub(super) fn parse(text: &str, name: &str, form: Option<Form>) -> Topology {
    let source = Source { name: name.to_owned(), text: Arc::from(text) };
    let heading = text.lines().next().unwrap_or_default();
    let form = form.unwrap_or_else(|| form_of(heading));
    let mut rows = Rows { source, form, layers: Vec::new(), findings: Vec::new(), unread: None };
    let mut offset = 0;
    // Commas are commas: SCALE-Sim knows no quotes, and one in a name must not swallow the rows behind it.
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let place = Place { line: index + 1, bytes: offset..offset + line.trim_end().len() };
        offset += line.len();
        let fields: Vec<&str> = line.split(',').map(str::trim).take(64).collect();
        if index == 0 {
            if rows.sizes(&fields).is_ok() {
                rows.warn(
                    &place,
                    "the first line is taken for a heading, as SCALE-Sim does, and looks like a layer",
                    None,
                );
            }
        } else if fields.iter().any(|field| !field.is_empty()) {
            rows.row(&fields, &place);
            if rows.layers.len() > MAX_LAYERS {
                rows.layers.pop();
                rows.warn(&place, &format!("rows from here on are not read: the limit is {MAX_LAYERS} layers"), None);
                break;
            }
        }
    }
    if let Some((place, field)) = rows.unread.take() {
        let message = format!("what stands behind the last size is not read, here and below: `{}`", excerpt(&field));
        rows.warn(&place, &message, Some("layers run dense, once, as their sizes say"));
    }
    Topology { form, layers: rows.layers, findings: rows.findings, text: text.to_owned() }
}

/// What a heading says that its rows are.
fn form_of(heading: &str) -> Form {
    let columns: Vec<String> = heading.split(',').map(|column| column.trim().to_lowercase()).skip(1).take(3).collect();
    if columns == ["m", "n", "k"] { Form::Products } else { Form::Convolutions }
}

/// A field in a message.
fn excerpt(field: &str) -> String {
    let short: String = field.chars().take(40).collect();
    if short.len() < field.len() { short + "..." } else { short }
}

/// Where a row stands.
#[derive(Clone, Debug)]
struct Place {
    line: usize,
    bytes: Range<usize>,
}

struct Rows {
    source: Source,
    form: Form,
    layers: Vec<Layer>,
    findings: Vec<Diagnostic>,
    /// The first field that is left out.
    unread: Option<(Place, String)>,
}

impl Rows {
    fn warn(&mut self, place: &Place, message: &str, help: Option<&str>) {
        let mut finding = if place.bytes.len() <= SHOWN_BYTES {
            Diagnostic::warning(message).with_span(self.source.clone(), place.bytes.clone())
        } else {
            Diagnostic::warning(format!("line {}: {message}", place.line)).with_file(&self.source.name)
        };
        finding.help = help.map(str::to_owned);
        self.findings.push(finding);
    }

    /// The sizes behind a row's name, or what is wrong with them.
    fn sizes(&self, fields: &[&str]) -> Result<Vec<u64>, String> {
        let columns = self.form.columns();
        let sizes = fields.get(1..).unwrap_or_default();
        let size = |(index, column): (usize, &&str)| {
            let field = sizes.get(index).copied().unwrap_or_default();
            let expected = format!("{column} is a whole number from 1 to 2^31");
            if field.is_empty() {
                return Err(format!("the row ends early or leaves a field empty: {expected}"));
            }
            let digits = field.strip_prefix('+').unwrap_or(field);
            let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
            number
                .filter(|number| (1..=MAX_SIZE).contains(number))
                .ok_or_else(|| format!("{expected}: `{}`", excerpt(field)))
        };
        columns.iter().enumerate().map(size).collect()
    }

    fn row(&mut self, fields: &[&str], place: &Place) {
        const HELP: &str = "the row is left out; the others are read";
        let convolution = self.sizes(fields).and_then(|sizes| match (self.form, sizes.as_slice()) {
            (Form::Convolutions, &[height, width, filter_height, filter_width, channels, filters, stride]) => {
                let (ifmap, filter) = ([height, width], [filter_height, filter_width]);
                if filter[0] > ifmap[0] || filter[1] > ifmap[1] {
                    return Err(format!(
                        "a filter is not larger than the padded map: {filter_height}x{filter_width} on {height}x{width}"
                    ));
                }
                Ok(Convolution { ifmap, filter, channels, filters, stride })
            }
            (Form::Products, &[m, n, k]) => Ok(Convolution::product(m, n, k)),
            _ => Err("the row ends early".to_owned()),
        });
        let name: String = fields.first().copied().unwrap_or_default().chars().take(200).collect();
        match convolution {
            Ok(convolution) => self.layers.push(Layer { name, line: place.line, convolution }),
            Err(message) => return self.warn(place, &message, Some(HELP)),
        }
        let rest = fields.get(self.form.columns().len() + 1..).unwrap_or_default();
        if self.unread.is_none()
            && let Some(field) = rest.iter().find(|field| !field.is_empty())
        {
            self.unread = Some((place.clone(), (*field).to_owned()));
        }
    }
}
