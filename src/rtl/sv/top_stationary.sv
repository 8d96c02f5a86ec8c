// The array with all that is around it: operands in, loads and streams by command, sums in the accumulators. Operand buffers
// are outside: an address goes out and its row is there in the same cycle.
module systole_top
    import systole_pkg::*;
(
    input  logic                                    clk,
    input  logic                                    rst,
    // Commands: taken in the cycle in which `ready` answers `valid`, and begun in it.
    input  logic                                    load_valid,
    input  load_command_t                           load_command,
    output logic                                    load_ready,
    output logic                                    load_done,
    input  logic                                    stream_valid,
    input  stream_command_t                         stream_command,
    output logic                                    stream_ready,
    // Operand buffers: the streamed one, a row a beat; the stationary one, the rows of a step of the load.
    output logic [31:0]                             left_address,
    input  logic [ROWS-1:0][LEFT_BITS-1:0]          left_row,
    output logic [31:0]                             top_address,
    input  logic [SIDE-1:0][COLS-1:0][TOP_BITS-1:0] top_rows,
    // Results as they are written: whether they count, whether they are a tile's last, and the accumulator's new value.
    output logic [LANES-1:0]                        result_valid,
    output logic [LANES-1:0]                        result_last,
    output logic [LANES-1:0][ACCUMULATOR_BITS-1:0]  result,
//: if REQUANTIZE
    // The row that is read, as outputs of the layer two cycles later.
    input  logic [LANES-1:0][31:0]                  bias,
    input  logic [LANES-1:0][31:0]                  multiplier,
    input  logic [LANES-1:0][7:0]                   shift,
    input  logic [31:0]                             zero_point,
    input  logic [31:0]                             low,
    input  logic [31:0]                             high,
    output logic [LANES-1:0][31:0]                  quantized,
//: end
    // A row of accumulators, for the stage behind them. Not while sums are injected.
    input  logic                                    read_valid,
    input  logic [ADDRESS_BITS-1:0]                 read_address,
    output logic [LANES-1:0][ACCUMULATOR_BITS-1:0]  read
);
    // What a result needs to know, from its row of values on.
    typedef struct packed {
        logic                      last;
        logic                      write;
        logic                      accumulate;
        logic [ADDRESS_BITS-1:0]   address;
        logic [COL_COUNT_BITS-1:0] cols;
    } token_t;
    localparam int TOKEN_BITS = $bits(token_t);

    // Commands.
    logic beat, first_beat, last_beat, strobe, load_idle;
    logic [31:0] beat_index;
    logic [SLOT_BITS-1:0] load_slot, load_slot_now, take_slot;
    logic [STEP_BITS-1:0] step;
    stream_command_t running;
    logic unused_running;
    assign unused_running = &{1'b0, running};
    sequencer_stationary #(
        .COLS        (COLS),
        .SLOTS       (SHADOW_DEPTH),
        .SLOT_BITS   (SLOT_BITS),
        .LOAD        (LOAD),
        .ROOM        (ROOM),
        .MIN_STREAM  (MIN_STREAM),
        .OVERLAP     (OVERLAP),
        .LATENCY     (LATENCY),
        .LANE_SKEW   (DESKEWED ? 0 : OPERAND_HOP),
        .INJECT_WAIT (INJECT_WAIT)
    ) sequencer (
        .clk           (clk),
        .rst           (rst),
        .load_valid    (load_valid),
        .load_command  (load_command),
        .load_start    (load_ready),
        .load_slot     (load_slot_now),
        .load_idle     (load_idle),
        .stream_valid  (stream_valid),
        .stream_command(stream_command),
        .stream_start  (stream_ready),
        .beat          (beat),
        .first_beat    (first_beat),
        .last_beat     (last_beat),
        .beat_index    (beat_index),
        .take_slot     (take_slot),
        .running       (running)
    );

    // The stationary operand.
    logic [TOP_BITS-1:0] load_zero, zero_now;
    logic [SLOT_BITS-1:0] held_slot;
    assign zero_now = load_ready ? load_command.zero : load_zero;
    assign load_slot = load_ready ? load_slot_now : held_slot;
    always_ff @(posedge clk) begin
        load_zero <= zero_now;
        held_slot <= load_slot;
    end
    weight_load #(
        .PERIOD    (LOAD_PERIOD),
        .STEPS     (STEPS),
        .STEP_BITS (STEP_BITS),
        .LAST_FIRST(LOAD_PATH == CHAIN)
    ) loader (
        .clk    (clk),
        .rst    (rst),
        .start  (load_ready),
        .base   (load_command.base),
        .idle   (load_idle),
        .strobe (strobe),
        .step   (step),
        .address(top_address)
    );
    assign load_done = strobe && step == STEP_BITS'(STEPS - 1);
    logic [SIDE-1:0][COLS-1:0][TOP_VALUE_BITS-1:0] words, port_words;
    operand_port #(
        .LANES      (SIDE * COLS),
        .BITS       (TOP_BITS),
        .IS_SIGNED  (TOP_SIGNED),
        .ZERO_POINTS(ZERO_POINTS),
        .VALUE_BITS (TOP_VALUE_BITS),
        .COUNT_BITS ($clog2(SIDE * COLS + 1))
    ) top_port (
        .in  (top_rows),
        .zero(zero_now),
        .used($clog2(SIDE * COLS + 1)'(SIDE * COLS)),
        .out (words)
    );
    logic port_load;
    logic [SLOT_BITS-1:0] port_slot;
    logic [STEP_BITS-1:0] port_step;
    delay #(
        .STAGES(PORT_REGISTERS),
        .WIDTH (1 + SLOT_BITS + STEP_BITS + SIDE * COLS * TOP_VALUE_BITS)
    ) load_port (
        .clk(clk),
        .rst(rst),
        .in ({strobe, load_slot, step, words}),
        .out({port_load, port_slot, port_step, port_words})
    );

    // The streamed operand, in skew: a row SUM_HOP after the one above, as the sums come down.
    assign left_address = running.left_base + beat_index;
    logic [ROWS-1:0][LEFT_VALUE_BITS-1:0] values;
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
        .out (values)
    );
    localparam int ROW_BITS = 1 + SLOT_BITS + LEFT_VALUE_BITS;
    logic [ROWS-1:0][ROW_BITS-1:0] rows, port_rows, skewed_rows;
    logic [ROWS-1:0][LEFT_VALUE_BITS-1:0] array_value;
    logic [ROWS-1:0] array_take;
    logic [ROWS-1:0][SLOT_BITS-1:0] array_slot;
    for (genvar r = 0; r < ROWS; r++) begin : g_row
        assign rows[r] = {first_beat && running.takes, take_slot, values[r]};
        assign {array_take[r], array_slot[r], array_value[r]} = skewed_rows[r];
    end
    delay #(
        .STAGES(PORT_REGISTERS),
        .WIDTH (ROWS * ROW_BITS)
    ) row_port (
        .clk(clk),
        .rst(rst),
        .in (rows),
        .out(port_rows)
    );
    skew #(
        .LANES(ROWS),
        .WIDTH(ROW_BITS),
        .STEP (SUM_HOP)
    ) skew_rows (
        .clk(clk),
        .rst(rst),
        .in (port_rows),
        .out(skewed_rows)
    );

    logic [COLS-1:0][COLUMN_BITS-1:0] sum_top, sum_bottom, sums;
    array_stationary #(
        .ROWS         (ROWS),
        .COLS         (COLS),
        .VALUE_BITS   (LEFT_VALUE_BITS),
        .WEIGHT_BITS  (TOP_VALUE_BITS),
        .SUM_BITS     (COLUMN_BITS),
        .SATURATE     (SATURATE),
        .PE_REGISTERS (PE_REGISTERS),
        .HOP_REGISTERS(HOP_REGISTERS),
        .LOAD_PATH    (LOAD_PATH),
        .SLOTS        (SHADOW_DEPTH),
        .SLOT_BITS    (SLOT_BITS),
        .SIDE         (SIDE),
        .STEP_BITS    (STEP_BITS)
    ) array (
        .clk       (clk),
        .rst       (rst),
        .value     (array_value),
        .take      (array_take),
        .take_slot (array_slot),
        .load      (port_load),
        .load_slot (port_slot),
        .load_step (port_step),
        .words     (port_words),
        .sum_top   (sum_top),
        .sum_bottom(sum_bottom)
    );

    // Results, and for each what it needs to know; together, or in skew as the columns are.
    token_t token, column_token;
    assign token = '{
            last: last_beat,
            write: beat,
            accumulate: running.accumulate,
            address: running.address + ADDRESS_BITS'(beat_index),
            cols: running.cols
        };
    delay #(
        .STAGES(PORT_REGISTERS + (ROWS - 1) * SUM_HOP + PE_REGISTERS + 1),
        .WIDTH (TOKEN_BITS)
    ) token_delay (
        .clk(clk),
        .rst(rst),
        .in (token),
        .out(column_token)
    );
    logic [COLS-1:0][TOKEN_BITS-1:0] out_tokens;
    if (DESKEWED) begin : g_deskewed
        deskew #(
            .LANES(COLS),
            .WIDTH(COLUMN_BITS),
            .STEP (OPERAND_HOP)
        ) deskew_sums (
            .clk(clk),
            .rst(rst),
            .in (sum_bottom),
            .out(sums)
        );
        token_t row_token;
        delay #(
            .STAGES((COLS - 1) * OPERAND_HOP),
            .WIDTH (TOKEN_BITS)
        ) row_delay (
            .clk(clk),
            .rst(rst),
            .in (column_token),
            .out(row_token)
        );
        assign out_tokens = {COLS{row_token}};
    end else begin : g_skewed
        assign sums = sum_bottom;
        skew #(
            .LANES(COLS),
            .WIDTH(TOKEN_BITS),
            .STEP (OPERAND_HOP)
        ) skew_tokens (
            .clk(clk),
            .rst(rst),
            .in ({COLS{column_token}}),
            .out(out_tokens)
        );
    end

    logic [LANES-1:0] accumulate;
    logic [LANES-1:0][ADDRESS_BITS-1:0] write_address, inject_address;
    for (genvar c = 0; c < COLS; c++) begin : g_result
        token_t own;
        assign own = out_tokens[c];
        assign result_valid[c] = own.write && c < int'(own.cols);
        assign result_last[c] = own.last;
        assign write_address[c] = own.address;
        // What was injected is in the sum already.
        assign accumulate[c] = INJECT_WAIT == 0 && own.accumulate;
    end
    logic [LANES-1:0][ADDRESS_BITS-1:0] lane_address;
    assign lane_address = read_valid ? {LANES{read_address}} : inject_address;
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
        .read_address (lane_address),
        .read         (read)
    );

    // Sums that go on are injected at the top.
    if (INJECT_WAIT == 0) begin : g_add
        assign inject_address = '0;
        assign sum_top = '0;
    end else begin : g_inject
        // From whole rows, or from each column as late as its values reach it.
        logic [COLS-1:0][TOKEN_BITS-1:0] in_tokens;
        logic [COLS-1:0][COLUMN_BITS-1:0] injected, port_injected;
        if (DESKEWED) begin : g_rows
            assign in_tokens = {COLS{token}};
            skew #(
                .LANES(COLS),
                .WIDTH(COLUMN_BITS),
                .STEP (OPERAND_HOP)
            ) skew_sums (
                .clk(clk),
                .rst(rst),
                .in (port_injected),
                .out(sum_top)
            );
        end else begin : g_columns
            skew #(
                .LANES(COLS),
                .WIDTH(TOKEN_BITS),
                .STEP (OPERAND_HOP)
            ) skew_reads (
                .clk(clk),
                .rst(rst),
                .in ({COLS{token}}),
                .out(in_tokens)
            );
            assign sum_top = port_injected;
        end
        for (genvar c = 0; c < COLS; c++) begin : g_col
            token_t own;
            logic [COLUMN_BITS-1:0] cut;
            assign own = in_tokens[c];
            assign inject_address[c] = own.address;
            adder #(
                .A_BITS  (COLUMN_BITS),
                .B_BITS  (ACCUMULATOR_BITS),
                .SATURATE(SATURATE)
            ) narrow (
                .a  ('0),
                .b  (read[c]),
                .sum(cut)
            );
            assign injected[c] = own.accumulate ? cut : '0;
            logic unused;
            assign unused = &{1'b0, own.last, own.write, own.cols};
        end
        delay #(
            .STAGES(PORT_REGISTERS),
            .WIDTH (COLS * COLUMN_BITS)
        ) inject_port (
            .clk(clk),
            .rst(rst),
            .in (injected),
            .out(port_injected)
        );
    end
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
