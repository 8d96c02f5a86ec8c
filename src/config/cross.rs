//! What the fields of a config mean for each other: names that must exist, buffers that must hold one array tile,
//! functions that a policy needs; and what is legal but seldom meant.

use super::{
    modelled,
    places::{Places, closest, is_within},
    schema::{
        AcceleratorConfig, Accumulate, Buffer, BufferLayout, Dataflow, DepthwisePolicy, LoadPath, OutputSkew,
        VectorFunction,
    },
};
use crate::{
    config::fields::{quoted, thousands},
    diag::Diagnostic,
};

/// Bytes of requantization parameters of one output channel: bias, multiplier, shift.
const PARAMETER_BYTES: u64 = 12;

/// Adds the faults of a config whose single fields were checked; those that were faulty are not judged again.
pub fn check(config: &AcceleratorConfig, places: &Places, found: &mut Vec<Diagnostic>) {
    let faulty: Vec<String> = found.iter().filter_map(|fault| fault.path.clone()).collect();
    let checker = Checker { config, places, faulty, found };
    checker.run();
}

/// What is legal and seldom meant.
pub fn warnings(config: &AcceleratorConfig, places: &Places) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let (rows, load) = ("array.rows", "array.weight_load.cycles");
    let (AcceleratorConfig { array, accumulators, .. }, cycles) = (config, config.array.weight_load.cycles);
    if places.is_set(rows) && !places.is_set(load) && cycles != array.rows {
        let message = format!("`{rows}` becomes {}, and `{load}` stays {cycles}", array.rows);
        let help = format!("set `{load}={}` too if a row is loaded a cycle", array.rows);
        found.push(places.warning(rows, message).with_help(help));
    }
    if accumulators.bits < array.column_bits {
        let message = format!(
            "{} bits take the sums of columns of {}: what a column may hold can overflow here",
            accumulators.bits, array.column_bits
        );
        let help = "make it at least as wide as `array.column_bits`";
        found.push(places.warning("accumulators.bits", message).with_help(help));
    }
    found
}

struct Checker<'all> {
    config: &'all AcceleratorConfig,
    places: &'all Places,
    faulty: Vec<String>,
    found: &'all mut Vec<Diagnostic>,
}

impl Checker<'_> {
    fn run(mut self) {
        self.found.extend(modelled::refusals(self.config, self.places));
        self.names();
        self.array();
        self.structure();
        if self.sound(&["array.rows", "array.cols", "array.dataflows", "array.input_type", "array.weight_type"]) {
            self.capacity();
        }
        self.vector();
    }

    /// Whether none of these fields was faulty by itself.
    fn sound(&self, paths: &[&str]) -> bool {
        !self.faulty.iter().any(|faulty| paths.iter().any(|path| is_within(faulty, path) || is_within(path, faulty)))
    }

    fn fault(&mut self, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.found.push(self.places.fault(path, message).with_help(help));
    }

    fn names(&mut self) {
        let names: Vec<&str> = self.config.memories.iter().map(|space| space.name.as_str()).collect();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) && self.sound(&["memories"]) {
                let message = format!("two memories are called `{name}`");
                self.fault(&format!("memories.{index}.name"), message, "give each a name of its own");
            }
        }
        let placement = &self.config.placement;
        for (index, (path, name)) in placement.entries().into_iter().enumerate() {
            // What stands nowhere is the activations', whose fault is told once.
            let inherited = index > 1 && name == placement.activations;
            if names.contains(&name) || inherited || !self.sound(&[path, "memories"]) {
                continue;
            }
            let help = match closest(name, names.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the memories are {}", quoted(&names)),
            };
            self.fault(path, format!("no memory is called `{name}`"), help);
        }
    }

    /// Structures that no one can build.
    fn structure(&mut self) {
        let array = &self.config.array;
        let (accumulate, output, load) = (array.accumulate, array.output, array.weight_load);
        let sound = self.sound(&["array.accumulate", "array.output"]);
        match (accumulate, output) {
            (Accumulate::InjectSkewed, OutputSkew::Deskewed) if sound => self.fault(
                "array.accumulate",
                "`InjectSkewed` injects each column's sums as they came out, and `array.output` undoes the skew",
                "set `array.output` to `Skewed`, or inject rows: `InjectRows`",
            ),
            (Accumulate::InjectRows, OutputSkew::Skewed) if sound => self.fault(
                "array.accumulate",
                "`InjectRows` injects whole rows of sums, and `array.output` leaves them in skew",
                "set `array.output` to `Deskewed`, or inject in skew: `InjectSkewed`",
            ),
            _ => {}
        }
        let stays = array.dataflows.contains(&Dataflow::OS) && accumulate != Accumulate::AtOutput;
        if stays && self.sound(&["array.accumulate", "array.dataflows"]) {
            let message = format!(
                "`{accumulate:?}` has no adders at the accumulators, and output stationary sums cannot be injected: they \
                 begin in the elements"
            );
            self.fault("array.accumulate", message, "set it to `AtOutput`, or remove `OS` from `array.dataflows`");
        }
        let narrow = self.config.accumulators.bits < array.column_bits && accumulate != Accumulate::AtOutput;
        if narrow && self.sound(&["array.accumulate", "accumulators.bits", "array.column_bits"]) {
            let message = format!(
                "`{accumulate:?}` takes sums of {} bits from accumulators of {}",
                array.column_bits, self.config.accumulators.bits
            );
            self.fault("array.accumulate", message, "make `accumulators.bits` at least `array.column_bits`");
        }
        if load.path == LoadPath::Chain && load.shadow_depth > 1 && self.sound(&["array.weight_load"]) {
            let message = format!("a shift chain holds one tile, not {}", load.shadow_depth);
            self.fault("array.weight_load.shadow_depth", message, "make it 0 or 1, or load in skew: `path: Skewed`");
        }
    }

    fn array(&mut self) {
        let array = &self.config.array;
        if array.count > 1 && self.config.buffers.weight_fifo_tiles > 0 && self.sound(&["array.count", "buffers"]) {
            let message = format!("not modelled yet: a weight FIFO for each of {} arrays", array.count);
            self.fault("buffers.weight_fifo_tiles", message, "set it to 0, or `array.count` to 1");
        }
        let (input, weight) = (array.input_type, array.weight_type);
        if self.sound(&["array.input_type", "array.weight_type"]) && input.is_integer() != weight.is_integer() {
            let message =
                format!("`{weight:?}` weights with `{input:?}` inputs: one is an integer type, the other not");
            self.fault("array.weight_type", message, "make both integer or both float");
        }
        if self.sound(&["array.min_stream", "array.max_stream"])
            && array.max_stream != 0
            && array.max_stream < array.min_stream
        {
            let message = format!("smaller than `array.min_stream`: {} < {}", array.max_stream, array.min_stream);
            self.fault("array.max_stream", message, "raise it, or set it to 0 for no limit");
        }
        let repeated =
            (1..array.dataflows.len()).find(|&index| array.dataflows[..index].contains(&array.dataflows[index]));
        if let Some(index) = repeated.filter(|_| self.sound(&["array.dataflows"])) {
            let message = format!("`{:?}` is listed twice", array.dataflows[index]);
            self.fault(&format!("array.dataflows.{index}"), message, "remove one");
        }
    }

    /// One array tile with one streamed row, in every dataflow that is listed: operands, parameters and outputs must
    /// fit, or the dataflow could never be used.
    fn capacity(&mut self) {
        let array = &self.config.array;
        let (rows, cols) = (u64::from(array.rows), u64::from(array.cols));
        let (mut input, mut weight, mut accumulators) = (0, 0, 0);
        for dataflow in &array.dataflows {
            // Elements of [inputs, weights, accumulators]; ranges keep the products below 2^21.
            let need = match dataflow {
                Dataflow::WS => [rows, rows * cols, cols],
                Dataflow::OS => [rows, cols, rows * cols],
                Dataflow::IS => [rows * cols, rows, cols],
            };
            input = input.max(array.input_type.packed_bytes(need[0]));
            weight = weight.max(array.weight_type.packed_bytes(need[1]) + cols * PARAMETER_BYTES);
            accumulators = accumulators.max(need[2]);
        }
        let output = array.input_type.packed_bytes(cols);
        let help = "enlarge it, make the array smaller, or list fewer dataflows";
        let layout = self.config.buffers.layout;
        let mut fits = |path: &str, buffer: Buffer, need: u64, what: &str| {
            let path = format!("{path}.bytes");
            if self.sound(&[&path]) && buffer.bytes < need {
                let have = thousands(buffer.bytes);
                let message = format!("{have} bytes cannot hold {what}: {} bytes", thousands(need));
                self.fault(&path, message, help);
            }
        };
        match layout {
            BufferLayout::Shared(pool) => {
                fits("buffers.layout.Shared", pool, input + weight + output, "one array tile's operands and outputs");
            }
            BufferLayout::Split { input: inputs, weight: weights, output: outputs } => {
                fits("buffers.layout.Split.input", inputs, input, "one array tile's inputs");
                fits("buffers.layout.Split.weight", weights, weight, "one array tile's weights and parameters");
                fits("buffers.layout.Split.output", outputs, output, "one row of outputs");
            }
        }
        let each = u64::from(self.config.accumulators.bits).div_ceil(8);
        let (have, need) = (self.config.accumulators.bytes, accumulators * each);
        if self.sound(&["accumulators.bytes", "accumulators.bits"]) && have < need {
            let (have, need) = (thousands(have), thousands(need));
            let message = format!("{have} bytes cannot hold one array tile's partial sums: {need} bytes");
            self.fault("accumulators.bytes", message, help);
        }
    }

    fn vector(&mut self) {
        if !self.sound(&["vector.cycles"]) {
            return;
        }
        let listed = &self.config.vector.cycles;
        let function = |index: usize| listed[index].0;
        let repeated = (1..listed.len()).find(|&index| (0..index).any(|before| function(before) == function(index)));
        if let Some(index) = repeated {
            let message = format!("`{:?}` is listed twice", function(index));
            self.fault(&format!("vector.cycles.{index}.0"), message, "remove one");
        }
        if self.config.vector.cycles_of(VectorFunction::Requantize).is_none() {
            let message = "`Requantize` is not listed: nothing could turn accumulators into outputs";
            self.fault("vector.cycles", message, "add `(Requantize, 1)`");
        }
        let by_vector = matches!(self.config.depthwise, DepthwisePolicy::Vector { .. });
        if by_vector && self.config.vector.cycles_of(VectorFunction::Depthwise).is_none() {
            let message = "`Vector` needs a vector unit that lists `Depthwise`";
            self.fault("depthwise", message, "add `(Depthwise, 1)` to `vector.cycles`, or choose another policy");
        }
    }
}
