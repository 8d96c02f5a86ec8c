// ROWS x COLS elements whose sums stay. Both operands enter in skew and hop on, to the right and downwards; sums leave
// down the columns, the last row first, or along the rows, the last column first.
module array_output #(
    parameter int ROWS          = 4,
    parameter int COLS          = 4,
    parameter int LEFT_BITS     = 8,
    parameter int TOP_BITS      = 8,
    parameter int SUM_BITS      = 32,
    parameter bit SATURATE      = 0,
    parameter int PE_REGISTERS  = 0,
    parameter int HOP_REGISTERS = 0,
    parameter bit ALONG_ROWS    = 0,
    parameter int LANES         = ALONG_ROWS ? ROWS : COLS
) (
    input  logic                            clk,
    input  logic                            rst,
    // Left edge, a row each, in skew: the control of a pair travels with its left value.
    input  logic [ROWS-1:0][LEFT_BITS-1:0]  left,
    input  logic [ROWS-1:0]                 valid,
    input  logic [ROWS-1:0]                 first,
    input  logic [ROWS-1:0]                 last,
    input  logic [ROWS-1:0]                 hold,
    // Top edge, a column each, in skew.
    input  logic [COLS-1:0][TOP_BITS-1:0]   top,
    // The sums of the last element are complete, and with them all.
    output logic                            complete,
    output logic [LANES-1:0]                out_valid,
    output logic [LANES-1:0][SUM_BITS-1:0]  out
);
    localparam int OPERAND_HOP = 1 + HOP_REGISTERS;
    localparam int LEFT_LINK = 4 + LEFT_BITS;
    logic [LEFT_LINK-1:0] left_link[ROWS][COLS];
    logic [TOP_BITS-1:0] top_link[ROWS][COLS];
    logic [SUM_BITS:0] chain_in[ROWS][COLS];
    logic [SUM_BITS:0] chain_out[ROWS][COLS];
    logic waiting[ROWS][COLS];
    logic is_complete[ROWS][COLS];
    logic unused[ROWS][COLS];

    for (genvar r = 0; r < ROWS; r++) begin : g_row
        for (genvar c = 0; c < COLS; c++) begin : g_col
            if (c == 0) begin : g_left
                assign left_link[r][c] = {valid[r], first[r], last[r], hold[r], left[r]};
            end else begin : g_left_hop
                delay #(
                    .STAGES(OPERAND_HOP),
                    .WIDTH (LEFT_LINK)
                ) hop (
                    .clk(clk),
                    .rst(rst),
                    .in (left_link[r][c-1]),
                    .out(left_link[r][c])
                );
            end
            if (r == 0) begin : g_top
                assign top_link[r][c] = top[c];
            end else begin : g_top_hop
                delay #(
                    .STAGES(OPERAND_HOP),
                    .WIDTH (TOP_BITS)
                ) hop (
                    .clk(clk),
                    .rst(rst),
                    .in (top_link[r-1][c]),
                    .out(top_link[r][c])
                );
            end
            if (ALONG_ROWS ? c == 0 : r == 0) begin : g_chain_end
                assign chain_in[r][c] = '0;
            end else begin : g_chain_hop
                delay #(
                    .STAGES(HOP_REGISTERS),
                    .WIDTH (1 + SUM_BITS)
                ) hop (
                    .clk(clk),
                    .rst(rst),
                    .in (chain_out[ALONG_ROWS?r:r-1][ALONG_ROWS?c-1:c]),
                    .out(chain_in[r][c])
                );
            end
            pe_output #(
                .LEFT_BITS(LEFT_BITS),
                .TOP_BITS (TOP_BITS),
                .SUM_BITS (SUM_BITS),
                .SATURATE (SATURATE),
                .PIPELINE (PE_REGISTERS)
            ) element (
                .clk            (clk),
                .rst            (rst),
                .valid          (left_link[r][c][LEFT_BITS+3]),
                .first          (left_link[r][c][LEFT_BITS+2]),
                .last           (left_link[r][c][LEFT_BITS+1]),
                .hold           (left_link[r][c][LEFT_BITS]),
                .left           (left_link[r][c][LEFT_BITS-1:0]),
                .top            (top_link[r][c]),
                .complete       (is_complete[r][c]),
                .chain_in_valid (chain_in[r][c][SUM_BITS]),
                .chain_in       (chain_in[r][c][SUM_BITS-1:0]),
                .go             (waiting[ALONG_ROWS?r:ROWS-1][ALONG_ROWS?COLS-1:c]),
                .waiting        (waiting[r][c]),
                .chain_out_valid(chain_out[r][c][SUM_BITS]),
                .chain_out      (chain_out[r][c][SUM_BITS-1:0])
            );
            // Only the last element's counts.
            assign unused[r][c] = &{1'b0, is_complete[r][c]};
        end
    end
    assign complete = is_complete[ROWS-1][COLS-1];
    for (genvar lane = 0; lane < LANES; lane++) begin : g_lane
        assign {out_valid[lane], out[lane]} = chain_out[ALONG_ROWS?lane:ROWS-1][ALONG_ROWS?COLS-1:lane];
    end
endmodule
