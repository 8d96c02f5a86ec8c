// Lanes that come together leave in skew: each STEP cycles after the one before it.
module skew #(
    parameter int LANES = 1,
    parameter int WIDTH = 1,
    parameter int STEP  = 1
) (
    input  logic                        clk,
    input  logic                        rst,
    input  logic [LANES-1:0][WIDTH-1:0] in,
    output logic [LANES-1:0][WIDTH-1:0] out
);
    for (genvar lane = 0; lane < LANES; lane++) begin : g_lane
        delay #(
            .STAGES(lane * STEP),
            .WIDTH (WIDTH)
        ) registers (
            .clk(clk),
            .rst(rst),
            .in (in[lane]),
            .out(out[lane])
        );
    end
endmodule
