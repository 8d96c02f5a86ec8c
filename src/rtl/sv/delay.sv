// A value, STAGES cycles later. Zeros after reset.
module delay #(
    parameter int STAGES = 1,
    parameter int WIDTH  = 1
) (
    input  logic             clk,
    input  logic             rst,
    input  logic [WIDTH-1:0] in,
    output logic [WIDTH-1:0] out
);
    if (STAGES == 0) begin : g_wire
        logic unused;
        assign unused = &{1'b0, clk, rst};
        assign out = in;
    end else begin : g_registers
        logic [WIDTH-1:0] stage[STAGES];
        always_ff @(posedge clk) begin
            for (int i = 0; i < STAGES; i++) begin
                stage[i] <= rst ? '0 : (i == 0 ? in : stage[(i == 0) ? 0 : i - 1]);
            end
        end
        assign out = stage[STAGES-1];
    end
endmodule
