// `a + b` at the width of `a`, two's complement. Past it, the low bits (wrap), or the largest or smallest value (saturate).
module adder #(
    parameter int A_BITS   = 32,
    parameter int B_BITS   = 32,
    parameter bit SATURATE = 0
) (
    input  logic signed [A_BITS-1:0] a,
    input  logic signed [B_BITS-1:0] b,
    output logic signed [A_BITS-1:0] sum
);
    localparam int EXACT_BITS = (A_BITS > B_BITS ? A_BITS : B_BITS) + 1;
    logic signed [EXACT_BITS-1:0] exact;
    assign exact = EXACT_BITS'(a) + EXACT_BITS'(b);

    if (SATURATE) begin : g_saturate
        // The sum has the width if all bits above it are its sign.
        logic [EXACT_BITS-A_BITS:0] sign;
        assign sign = exact[EXACT_BITS-1:A_BITS-1];
        assign sum = (&sign || !(|sign)) ? exact[A_BITS-1:0]
                   : {exact[EXACT_BITS-1], {(A_BITS - 1) {!exact[EXACT_BITS-1]}}};
    end else begin : g_wrap
        logic unused;
        assign unused = &{1'b0, exact[EXACT_BITS-1:A_BITS]};
        assign sum = exact[A_BITS-1:0];
    end
endmodule
