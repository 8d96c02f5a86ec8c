// The array with all that is around it: operands in, streams by command, sums in the accumulators. Operand buffers are
// outside: an address goes out and its row is there in the same cycle.
module systole_top
    import systole_pkg::*;
(
    input  logic                                   clk,
    input  logic                                   rst,
    // Commands: taken in the cycle in which `ready` answers `valid`, and begun in it.
    input  logic                                   stream_valid,
    input  stream_command_t                        stream_command,
    output logic                                   stream_ready,
    // Operand buffers, a row each a beat.
    output logic [31:0]                            left_address,
    input  logic [ROWS-1:0][LEFT_BITS-1:0]         left_row,
    output logic [31:0]                            top_address,
    input  logic [COLS-1:0][TOP_BITS-1:0]          top_row,
    // The sums of a tile are complete.
    output logic                                   complete,
    // Results as they are written: whether they count, whether they are a tile's last, and the accumulator's new value.
    output logic [LANES-1:0]                       result_valid,
    output logic [LANES-1:0]                       result_last,
    output logic [LANES-1:0][ACCUMULATOR_BITS-1:0] result,
//: if REQUANTIZE
    // The row that is read, as outputs of the layer two cycles later.
    input  logic [LANES-1:0][31:0]                 bias,
    input  logic [LANES-1:0][31:0]                 multiplier,
    input  logic [LANES-1:0][7:0]                  shift,
    input  logic [31:0]                            zero_point,
    input  logic [31:0]                            low,
    input  logic [31:0]                            high,
    output logic [LANES-1:0][31:0]                 quantized,
//: end
    // A row of accumulators, for the stage behind them.
    input  logic [ADDRESS_BITS-1:0]                read_address,
    output logic [LANES-1:0][ACCUMULATOR_BITS-1:0] read
);
    logic beat, first_beat, last_beat;
    logic [31:0] beat_index;
    stream_command_t running;
    logic unused_running;
    assign unused_running = &{1'b0, running};
    sequencer_output #(
        .LANES     (LANES),
        .ALONG_ROWS(ALONG_ROWS),
        .MIN_STREAM(MIN_STREAM),
        .OVERLAP   (OVERLAP),
        .COMPLETE  (COMPLETE),
        .LATENCY   (COMPLETE + DRAIN),
        .LANE_SKEW (DESKEWED ? 0 : OPERAND_HOP),
        .DRAIN     (DRAIN)
    ) sequencer (
        .clk           (clk),
        .rst           (rst),
        .stream_valid  (stream_valid),
        .stream_command(stream_command),
        .stream_start  (stream_ready),
        .beat          (beat),
        .first_beat    (first_beat),
        .last_beat     (last_beat),
        .beat_index    (beat_index),
        .running       (running)
    );

    // Both operands, in skew.
    assign left_address = running.left_base + beat_index;
    assign top_address = running.top_base + beat_index;
    logic [ROWS-1:0][LEFT_VALUE_BITS-1:0] left_values;
    logic [COLS-1:0][TOP_VALUE_BITS-1:0] top_values, port_top, array_top;
    operand_port #(
        .LANES      (ROWS),
        .BITS       (LEFT_BITS),
        .IS_SIGNED  (LEFT_SIGNED),
        .ZERO_POINTS(ZERO_POINTS),
        .VALUE_BITS (LEFT_VALUE_BITS),
        .COUNT_BITS (ROW_COUNT_BITS)
    ) left_port (
        .in  (left_row),
        .zero(running.left_zero),
        .used(running.rows),
        .out (left_values)
    );
    operand_port #(
        .LANES      (COLS),
        .BITS       (TOP_BITS),
        .IS_SIGNED  (TOP_SIGNED),
        .ZERO_POINTS(ZERO_POINTS),
        .VALUE_BITS (TOP_VALUE_BITS),
        .COUNT_BITS (COL_COUNT_BITS)
    ) top_port (
        .in  (top_row),
        .zero(running.top_zero),
        .used(running.cols),
        .out (top_values)
    );
    localparam int ROW_BITS = 4 + LEFT_VALUE_BITS;
    logic [ROWS-1:0][ROW_BITS-1:0] rows, port_rows, skewed_rows;
    logic [ROWS-1:0][LEFT_VALUE_BITS-1:0] array_left;
    logic [ROWS-1:0] array_valid, array_first, array_last, array_hold;
    for (genvar r = 0; r < ROWS; r++) begin : g_row
        assign rows[r] = {beat, first_beat && !running.resume, last_beat, running.hold, left_values[r]};
        assign {array_valid[r], array_first[r], array_last[r], array_hold[r], array_left[r]} = skewed_rows[r];
    end
    delay #(
        .STAGES(PORT_REGISTERS),
        .WIDTH (ROWS * ROW_BITS + COLS * TOP_VALUE_BITS)
    ) ports (
        .clk(clk),
        .rst(rst),
        .in ({rows, top_values}),
        .out({port_rows, port_top})
    );
    skew #(
        .LANES(ROWS),
        .WIDTH(ROW_BITS),
        .STEP (OPERAND_HOP)
    ) skew_left (
        .clk(clk),
        .rst(rst),
        .in (port_rows),
        .out(skewed_rows)
    );
    skew #(
        .LANES(COLS),
        .WIDTH(TOP_VALUE_BITS),
        .STEP (OPERAND_HOP)
    ) skew_top (
        .clk(clk),
        .rst(rst),
        .in (port_top),
        .out(array_top)
    );

    logic [LANES-1:0][COLUMN_BITS-1:0] lane_sums, sums;
    logic [LANES-1:0] lane_valid;
    array_output #(
        .ROWS         (ROWS),
        .COLS         (COLS),
        .LEFT_BITS    (LEFT_VALUE_BITS),
        .TOP_BITS     (TOP_VALUE_BITS),
        .SUM_BITS     (COLUMN_BITS),
        .SATURATE     (SATURATE),
        .PE_REGISTERS (PE_REGISTERS),
        .HOP_REGISTERS(HOP_REGISTERS),
        .ALONG_ROWS   (ALONG_ROWS)
    ) array (
        .clk      (clk),
        .rst      (rst),
        .left     (array_left),
        .valid    (array_valid),
        .first    (array_first),
        .last     (array_last),
        .hold     (array_hold),
        .top      (array_top),
        .complete (complete),
        .out_valid(lane_valid),
        .out      (lane_sums)
    );

    // Which accumulators a tile goes to: known at its last beat, needed when the first lane's first sum leaves the chain.
    typedef struct packed {
        logic                        start;
        logic                        accumulate;
        logic [ADDRESS_BITS-1:0]     address;
        logic [INDEX_COUNT_BITS-1:0] indices;
        logic [LANE_COUNT_BITS-1:0]  lanes;
    } tile_t;
    tile_t tile, late_tile;
    assign tile = '{
            start: last_beat && !running.hold,
            accumulate: running.accumulate,
            address: running.address,
            indices: ALONG_ROWS ? INDEX_COUNT_BITS'(running.cols) : INDEX_COUNT_BITS'(running.rows),
            lanes: ALONG_ROWS ? LANE_COUNT_BITS'(running.rows) : LANE_COUNT_BITS'(running.cols)
        };
    delay #(
        .STAGES(PORT_REGISTERS + (INDICES - 1) * OPERAND_HOP + PE_REGISTERS + 2),
        .WIDTH ($bits(tile_t))
    ) tile_delay (
        .clk(clk),
        .rst(rst),
        .in (tile),
        .out(late_tile)
    );
    typedef struct packed {
        logic                       last;
        logic                       write;
        logic                       accumulate;
        logic [ADDRESS_BITS-1:0]    address;
        logic [LANE_COUNT_BITS-1:0] lanes;
    } token_t;
    localparam int TOKEN_BITS = $bits(token_t);
    token_t token;
    logic [LANE_COUNT_BITS-1:0] held_lanes;
    assign token.lanes = late_tile.start ? late_tile.lanes : held_lanes;
    always_ff @(posedge clk) held_lanes <= token.lanes;
    drain #(
        .INDICES     (INDICES),
        .STEP        (OPERAND_HOP),
        .ADDRESS_BITS(ADDRESS_BITS),
        .INDEX_BITS  (INDEX_COUNT_BITS)
    ) drain_tokens (
        .clk             (clk),
        .rst             (rst),
        .start           (late_tile.start),
        .start_address   (late_tile.address),
        .start_used      (late_tile.indices),
        .start_accumulate(late_tile.accumulate),
        .write           (token.write),
        .last            (token.last),
        .address         (token.address),
        .accumulate      (token.accumulate)
    );

    logic [LANES-1:0][TOKEN_BITS-1:0] out_tokens;
    logic [LANES-1:0] out_valid;
    if (DESKEWED) begin : g_deskewed
        logic [LANES-1:0][COLUMN_BITS:0] in, out;
        for (genvar lane = 0; lane < LANES; lane++) begin : g_lane
            assign in[lane] = {lane_valid[lane], lane_sums[lane]};
            assign {out_valid[lane], sums[lane]} = out[lane];
        end
        deskew #(
            .LANES(LANES),
            .WIDTH(COLUMN_BITS + 1),
            .STEP (OPERAND_HOP)
        ) deskew_sums (
            .clk(clk),
            .rst(rst),
            .in (in),
            .out(out)
        );
        token_t row_token;
        delay #(
            .STAGES((LANES - 1) * OPERAND_HOP),
            .WIDTH (TOKEN_BITS)
        ) row_delay (
            .clk(clk),
            .rst(rst),
            .in (token),
            .out(row_token)
        );
        assign out_tokens = {LANES{row_token}};
    end else begin : g_skewed
        assign sums = lane_sums;
        assign out_valid = lane_valid;
        skew #(
            .LANES(LANES),
            .WIDTH(TOKEN_BITS),
            .STEP (OPERAND_HOP)
        ) skew_tokens (
            .clk(clk),
            .rst(rst),
            .in ({LANES{token}}),
            .out(out_tokens)
        );
    end

    logic [LANES-1:0] accumulate;
    logic [LANES-1:0][ADDRESS_BITS-1:0] write_address;
    for (genvar lane = 0; lane < LANES; lane++) begin : g_result
        token_t own;
        assign own = out_tokens[lane];
        // A sum is written when the chain says that there is one.
        assign result_valid[lane] = out_valid[lane] && own.write && lane < int'(own.lanes);
        assign result_last[lane] = out_valid[lane] && own.last;
        assign write_address[lane] = own.address;
        assign accumulate[lane] = own.accumulate;
    end
    accumulators #(
        .LANES       (LANES),
        .DEPTH       (DEPTH),
        .ADDRESS_BITS(ADDRESS_BITS),
        .BITS        (ACCUMULATOR_BITS),
        .SUM_BITS    (COLUMN_BITS),
        .SATURATE    (SATURATE)
    ) banks (
        .clk          (clk),
        .write        (result_valid),
        .write_address(write_address),
        .accumulate   (accumulate),
        .sum          (sums),
        .written      (result),
        .read_address ({LANES{read_address}}),
        .read         (read)
    );
//: if REQUANTIZE

    // The stage behind the accumulators.
    for (genvar lane = 0; lane < LANES; lane++) begin : g_requantize
        requantize #(
            .KIND    (REQUANTIZER),
            .ROUNDING(ROUNDING),
            .BITS    (ACCUMULATOR_BITS),
            .SATURATE(SATURATE)
        ) stage (
            .clk        (clk),
            .accumulator(read[lane]),
            .bias       (bias[lane]),
            .multiplier (multiplier[lane]),
            .shift      (shift[lane]),
            .zero_point (zero_point),
            .low        (low),
            .high       (high),
            .out        (quantized[lane])
        );
    end
//: end
endmodule
