// ROWS x COLS elements whose operand stays. Values enter at the left in skew and hop to the right, partial sums enter at
// the top in skew and leave at the bottom in skew. How the stationary operand reaches the elements is LOAD_PATH.
module array_stationary
    import systole_pkg::load_path_t, systole_pkg::SKEWED, systole_pkg::CHAIN;
#(
    parameter int         ROWS          = 4,
    parameter int         COLS          = 4,
    parameter int         VALUE_BITS    = 8,
    parameter int         WEIGHT_BITS   = 8,
    parameter int         SUM_BITS      = 32,
    parameter bit         SATURATE      = 0,
    parameter int         PE_REGISTERS  = 0,
    parameter int         HOP_REGISTERS = 0,
    parameter load_path_t LOAD_PATH     = SKEWED,
    parameter int         SLOTS         = 1,
    parameter int         SLOT_BITS     = 1,
    // Rows that are loaded side by side, and the bits of a step's number.
    parameter int         SIDE          = 1,
    parameter int         STEP_BITS     = 1
) (
    input  logic                                       clk,
    input  logic                                       rst,
    // Left edge, a row each, in skew; `take` travels with the first value of a stream past a new operand.
    input  logic [ROWS-1:0][VALUE_BITS-1:0]            value,
    input  logic [ROWS-1:0]                            take,
    input  logic [ROWS-1:0][SLOT_BITS-1:0]             take_slot,
    // The load, as it comes from the port: a step writes SIDE rows of words.
    input  logic                                       load,
    input  logic [SLOT_BITS-1:0]                       load_slot,
    input  logic [STEP_BITS-1:0]                       load_step,
    input  logic [SIDE-1:0][COLS-1:0][WEIGHT_BITS-1:0] words,
    // Top and bottom edge, a column each, in skew.
    input  logic [COLS-1:0][SUM_BITS-1:0]              sum_top,
    output logic [COLS-1:0][SUM_BITS-1:0]              sum_bottom
);
    localparam int OPERAND_HOP = 1 + HOP_REGISTERS;
    localparam int SUM_HOP = OPERAND_HOP + PE_REGISTERS;

    // What an element sees: of the streamed operand, of the load, of the sums.
    localparam int VALUE_LINK = 1 + SLOT_BITS + VALUE_BITS;
    localparam int LOAD_LINK = 1 + SLOT_BITS + STEP_BITS + SIDE * WEIGHT_BITS;
    logic [VALUE_LINK-1:0] value_link[ROWS][COLS];
    logic                  element_load[ROWS][COLS];
    logic [SLOT_BITS-1:0]  element_slot[ROWS][COLS];
    logic [WEIGHT_BITS-1:0] element_word[ROWS][COLS];
    logic [WEIGHT_BITS-1:0] held[ROWS][COLS];
    logic [SUM_BITS-1:0]   sum_in[ROWS][COLS];
    logic [SUM_BITS-1:0]   sum_out[ROWS][COLS];

    for (genvar r = 0; r < ROWS; r++) begin : g_row
        for (genvar c = 0; c < COLS; c++) begin : g_col
            if (c == 0) begin : g_left
                assign value_link[r][c] = {take[r], take_slot[r], value[r]};
            end else begin : g_hop
                delay #(
                    .STAGES(OPERAND_HOP),
                    .WIDTH (VALUE_LINK)
                ) hop (
                    .clk(clk),
                    .rst(rst),
                    .in (value_link[r][c-1]),
                    .out(value_link[r][c])
                );
            end
            if (r == 0) begin : g_top
                assign sum_in[r][c] = sum_top[c];
            end else begin : g_sum
                delay #(
                    .STAGES(HOP_REGISTERS),
                    .WIDTH (SUM_BITS)
                ) hop (
                    .clk(clk),
                    .rst(rst),
                    .in (sum_out[r-1][c]),
                    .out(sum_in[r][c])
                );
            end
            pe_stationary #(
                .VALUE_BITS (VALUE_BITS),
                .WEIGHT_BITS(WEIGHT_BITS),
                .SUM_BITS   (SUM_BITS),
                .SATURATE   (SATURATE),
                .PIPELINE   (PE_REGISTERS),
                .SLOTS      (SLOTS),
                .SLOT_BITS  (SLOT_BITS)
            ) element (
                .clk      (clk),
                .rst      (rst),
                .value    (value_link[r][c][VALUE_BITS-1:0]),
                .take     (value_link[r][c][VALUE_LINK-1]),
                .take_slot(value_link[r][c][VALUE_BITS+:SLOT_BITS]),
                .load     (element_load[r][c]),
                .load_slot(element_slot[r][c]),
                .word     (element_word[r][c]),
                .held     (held[r][c]),
                .sum_in   (sum_in[r][c]),
                .sum_out  (sum_out[r][c])
            );
        end
    end
    for (genvar c = 0; c < COLS; c++) begin : g_bottom
        assign sum_bottom[c] = sum_out[ROWS-1][c];
    end

    if (LOAD_PATH == SKEWED) begin : g_skewed
        // A step's words travel down their column through registers of their own at the pace of the sums, each column
        // OPERAND_HOP after its left neighbour; an element takes its word out as it passes.
        logic [COLS-1:0][LOAD_LINK-1:0] port, top;
        logic [LOAD_LINK-1:0] link[ROWS][COLS];
        for (genvar c = 0; c < COLS; c++) begin : g_col
            logic [SIDE-1:0][WEIGHT_BITS-1:0] column;
            for (genvar i = 0; i < SIDE; i++) begin : g_side
                assign column[i] = words[i][c];
            end
            assign port[c] = {load, load_slot, load_step, column};
            for (genvar r = 0; r < ROWS; r++) begin : g_row
                if (r == 0) begin : g_top
                    assign link[r][c] = top[c];
                end else begin : g_hop
                    delay #(
                        .STAGES(SUM_HOP),
                        .WIDTH (LOAD_LINK)
                    ) hop (
                        .clk(clk),
                        .rst(rst),
                        .in (link[r-1][c]),
                        .out(link[r][c])
                    );
                end
                logic [STEP_BITS-1:0] step;
                assign step = link[r][c][SIDE*WEIGHT_BITS+:STEP_BITS];
                assign element_load[r][c] = link[r][c][LOAD_LINK-1] && step == STEP_BITS'(r / SIDE);
                assign element_slot[r][c] = link[r][c][SIDE*WEIGHT_BITS+STEP_BITS+:SLOT_BITS];
                assign element_word[r][c] = link[r][c][(r%SIDE)*WEIGHT_BITS+:WEIGHT_BITS];
            end
        end
        skew #(
            .LANES(COLS),
            .WIDTH(LOAD_LINK),
            .STEP (OPERAND_HOP)
        ) skew_load (
            .clk(clk),
            .rst(rst),
            .in (port),
            .out(top)
        );
    end else if (LOAD_PATH == CHAIN) begin : g_chain
        // Every word moves SIDE rows on in each step, through the registers that hold it.
        logic unused;
        assign unused = &{1'b0, load_step};
        for (genvar r = 0; r < ROWS; r++) begin : g_row
            for (genvar c = 0; c < COLS; c++) begin : g_col
                assign element_load[r][c] = load;
                assign element_slot[r][c] = load_slot;
                if (r < SIDE) begin : g_first
                    assign element_word[r][c] = words[r][c];
                end else begin : g_next
                    assign element_word[r][c] = held[r-SIDE][c];
                end
            end
        end
    end else begin : g_rows
        // A bus a column and row of a step: the step says which rows take what is on it.
        for (genvar r = 0; r < ROWS; r++) begin : g_row
            for (genvar c = 0; c < COLS; c++) begin : g_col
                assign element_load[r][c] = load && load_step == STEP_BITS'(r / SIDE);
                assign element_slot[r][c] = load_slot;
                assign element_word[r][c] = words[r%SIDE][c];
            end
        end
    end

    logic unused_held;
    always_comb begin
        unused_held = 1'b0;
        for (int r = 0; r < ROWS; r++) for (int c = 0; c < COLS; c++) unused_held &= ^held[r][c];
    end
endmodule
