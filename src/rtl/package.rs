//! The package of a design: the machine's parameters, and what follows from them, derived in `SystemVerilog`.

use std::fmt::Write as _;

use super::{Design, design::is_signed};
use crate::{
    config::{Accumulate, LoadPath},
    tensor::{DType, Overflow, Requantizer, Rounding},
};

/// Text of `systole_pkg.sv`.
pub(super) fn package(design: &Design) -> String {
    let array = &design.array;
    let mut text = String::new();
    let plain: String = design.name.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    let _ = writeln!(
        text,
        "// The parameters of `{plain}`, {:?}: {}x{} elements. Written by `systole rtl`; all times in cycles.",
        design.dataflow, array.rows, array.cols
    );
    text.push_str("package systole_pkg;\n    // From the config.\n");
    let operand = |text: &mut String, name: &str, dtype: DType| {
        number(text, &format!("{name}_BITS"), dtype.bits());
        flag(text, &format!("{name}_SIGNED"), is_signed(dtype));
        number(text, &format!("{name}_VALUE_BITS"), design.value_bits(dtype));
    };
    number(&mut text, "ROWS", array.rows);
    number(&mut text, "COLS", array.cols);
    operand(&mut text, "LEFT", design.left());
    operand(&mut text, "TOP", design.top());
    flag(&mut text, "ZERO_POINTS", array.zero_points);
    number(&mut text, "COLUMN_BITS", u32::from(array.column_bits));
    number(&mut text, "ACCUMULATOR_BITS", u32::from(design.accumulator_bits));
    flag(&mut text, "SATURATE", array.overflow == Overflow::Saturate);
    number(&mut text, "DEPTH", design.depth);
    number(&mut text, "PE_REGISTERS", array.pe_registers);
    number(&mut text, "HOP_REGISTERS", array.hop_registers);
    number(&mut text, "PORT_REGISTERS", array.port_registers);
    number(&mut text, "MIN_STREAM", array.min_stream);
    flag(&mut text, "OVERLAP", array.overlap_tiles);
    flag(&mut text, "DESKEWED", design.is_deskewed());
    text.push_str(if design.is_stationary() { STATIONARY_TYPES } else { "" });
    if design.is_stationary() {
        let path = match array.weight_load.path {
            LoadPath::Skewed => "SKEWED",
            LoadPath::Chain => "CHAIN",
            LoadPath::Rows => "WHOLE_ROWS",
        };
        let _ = writeln!(text, "    localparam load_path_t LOAD_PATH = {path};");
        number(&mut text, "LOAD_PERIOD", array.weight_load.cycles);
        number(&mut text, "SHADOW_DEPTH", u32::from(array.weight_load.shadow_depth));
    } else {
        flag(&mut text, "ALONG_ROWS", design.along_rows());
    }
    text.push_str(DERIVED);
    if design.is_stationary() {
        text.push_str(STATIONARY);
        text.push_str(match array.accumulate {
            Accumulate::AtOutput => "    // Sums are added at the accumulators.\n    localparam int INJECT_WAIT = 0;\n",
            Accumulate::InjectSkewed => {
                "    // From a row of values to its sums, which each column injects as they came out.\n    localparam int \
                 INJECT_WAIT = PORT_REGISTERS + (ROWS - 1) * SUM_HOP + PE_REGISTERS + 1;\n"
            }
            Accumulate::InjectRows => {
                "    // From a row of values to its sums, which are injected together.\n    localparam int INJECT_WAIT = \
                 LATENCY + 1;\n"
            }
        });
    } else {
        text.push_str(OUTPUT);
    }
    if let Some(requantizer) = design.requantizer {
        text.push_str(REQUANTIZER);
        let (kind, rounding) = match requantizer {
            Requantizer::FixedSingle31 => ("FIXED_SINGLE_31", Rounding::HalfUp),
            Requantizer::FixedMul { rounding, .. } => ("FIXED_MUL", rounding),
            Requantizer::FixedDouble31 | Requantizer::F32Rne => ("FIXED_DOUBLE_31", Rounding::HalfAway),
        };
        let rounding = match rounding {
            Rounding::HalfEven => "HALF_EVEN",
            Rounding::HalfAway => "HALF_AWAY",
            Rounding::HalfUp => "HALF_UP",
            Rounding::Floor => "FLOOR",
        };
        let _ = writeln!(text, "    localparam requantizer_t REQUANTIZER = {kind};");
        let _ = writeln!(text, "    localparam rounding_t ROUNDING = {rounding};");
    }
    text.push_str("endpackage\n");
    text
}

fn number(text: &mut String, name: &str, value: u32) {
    let _ = writeln!(text, "    localparam int {name} = {value};");
}

fn flag(text: &mut String, name: &str, value: bool) {
    let _ = writeln!(text, "    localparam bit {name} = {};", u8::from(value));
}

const STATIONARY_TYPES: &str = "    typedef enum logic [1:0] {
        SKEWED,
        CHAIN,
        WHOLE_ROWS
    } load_path_t;
";

const DERIVED: &str = "
    // What follows.
    function automatic int bits_of(int values);
        return values <= 2 ? 1 : $clog2(values);
    endfunction
    localparam int ADDRESS_BITS = bits_of(DEPTH);
    localparam int ROW_COUNT_BITS = $clog2(ROWS + 1);
    localparam int COL_COUNT_BITS = $clog2(COLS + 1);
    localparam int OPERAND_HOP = 1 + HOP_REGISTERS;
";

const STATIONARY: &str = "    localparam int SUM_HOP = OPERAND_HOP + PE_REGISTERS;
    localparam int LANES = COLS;

    // A load writes SIDE rows a step; step `g` is taken at the end of cycle `written(g)` of the load.
    localparam int SIDE = (ROWS + LOAD_PERIOD - 1) / LOAD_PERIOD;
    localparam int STEPS = (ROWS + SIDE - 1) / SIDE;
    localparam int STEP_BITS = bits_of(STEPS);
    localparam int SLOT_BITS = bits_of(SHADOW_DEPTH);
    function automatic int written(int step);
        return ((step + 1) * LOAD_PERIOD + STEPS - 1) / STEPS - 1;
    endfunction

    // From the first element's use of what a load overwrites to the load. In skew the load follows the wave; a chain moves all
    // words at once, so that the last element must have used its own; on row buses each row must have.
    function automatic int room();
        int most = 0;
        int last = (COLS - 1) * OPERAND_HOP;
        if (LOAD_PATH == CHAIN) most = (ROWS - 1) * SUM_HOP + last - written(0);
        if (LOAD_PATH == WHOLE_ROWS) begin
            for (int r = 0; r < ROWS; r++) begin
                if (r * SUM_HOP + last - written(r / SIDE) > most) most = r * SUM_HOP + last - written(r / SIDE);
            end
        end
        return most < 0 ? 0 : most;
    endfunction
    localparam int ROOM = room();

    // From a load to the stream that uses it: all of the load, unless each row needs to be there only when the wave is.
    function automatic int load();
        int most = 1;
        if (LOAD_PATH != WHOLE_ROWS) return LOAD_PERIOD;
        for (int r = 0; r < ROWS; r++) begin
            if (written(r / SIDE) + 1 - r * SUM_HOP > most) most = written(r / SIDE) + 1 - r * SUM_HOP;
        end
        return most;
    endfunction
    localparam int LOAD = load();

    // From a stream's end to its last result.
    localparam int LATENCY = PORT_REGISTERS + (ROWS - 1) * SUM_HOP + (COLS - 1) * OPERAND_HOP + PE_REGISTERS;

    typedef struct packed {
        // Streams before it in the program, and whether it overwrites a load that no stream used.
        logic [31:0]         streams_before;
        logic                replaces;
        logic [31:0]         base;
        logic [TOP_BITS-1:0] zero;
    } load_command_t;
    typedef struct packed {
        // Loads before it in the program, and whether it is the first stream after one.
        logic [31:0]               loads_before;
        logic                      takes;
        logic                      accumulate;
        logic [31:0]               beats;
        logic [31:0]               beat_cycles;
        logic [31:0]               left_base;
        logic [ADDRESS_BITS-1:0]   address;
        logic [ROW_COUNT_BITS-1:0] rows;
        logic [COL_COUNT_BITS-1:0] cols;
        logic [LEFT_BITS-1:0]      left_zero;
    } stream_command_t;
";

const OUTPUT: &str = "    // A lane of sums leaves along its own wires, INDICES sums in a row.
    localparam int LANES = ALONG_ROWS ? ROWS : COLS;
    localparam int INDICES = ALONG_ROWS ? COLS : ROWS;
    localparam int LANE_COUNT_BITS = $clog2(LANES + 1);
    localparam int INDEX_COUNT_BITS = $clog2(INDICES + 1);

    // From a stream's end until all its sums are complete, and from there until they are out.
    localparam int COMPLETE = PORT_REGISTERS + (ROWS - 1 + COLS - 1) * OPERAND_HOP + PE_REGISTERS;
    localparam int DRAIN = 1 + (INDICES - 1) * OPERAND_HOP;

    typedef struct packed {
        logic                      accumulate;
        // Goes on with the sums in the elements; leaves its own there.
        logic                      resume;
        logic                      hold;
        logic [31:0]               beats;
        logic [31:0]               beat_cycles;
        logic [31:0]               left_base;
        logic [31:0]               top_base;
        logic [ADDRESS_BITS-1:0]   address;
        logic [ROW_COUNT_BITS-1:0] rows;
        logic [COL_COUNT_BITS-1:0] cols;
        logic [LEFT_BITS-1:0]      left_zero;
        logic [TOP_BITS-1:0]       top_zero;
    } stream_command_t;
";

const REQUANTIZER: &str = "
    typedef enum logic [1:0] {
        FIXED_DOUBLE_31,
        FIXED_SINGLE_31,
        FIXED_MUL
    } requantizer_t;
    typedef enum logic [1:0] {
        HALF_EVEN,
        HALF_AWAY,
        HALF_UP,
        FLOOR
    } rounding_t;
";
