// Where an operand enters the array: subtracts its zero point, and gives zero in lanes that a tile does not use.
module operand_port #(
    parameter int LANES         = 1,
    parameter int BITS          = 8,
    parameter bit IS_SIGNED     = 1,
    parameter bit ZERO_POINTS   = 0,
    // Width of a value with its sign: one more than BITS for an unsigned operand or one less a zero point.
    parameter int VALUE_BITS    = 8,
    parameter int COUNT_BITS    = 1
) (
    input  logic [LANES-1:0][BITS-1:0]       in,
    input  logic [BITS-1:0]                  zero,
    // The first `used` lanes count.
    input  logic [COUNT_BITS-1:0]            used,
    output logic [LANES-1:0][VALUE_BITS-1:0] out
);
    function automatic logic [VALUE_BITS-1:0] extend(input logic [BITS-1:0] value);
        return IS_SIGNED ? VALUE_BITS'($signed(value)) : VALUE_BITS'(value);
    endfunction

    logic [VALUE_BITS-1:0] subtrahend;
    if (ZERO_POINTS) begin : g_zero
        assign subtrahend = extend(zero);
    end else begin : g_plain
        logic unused;
        assign unused = &{1'b0, zero};
        assign subtrahend = '0;
    end

    always_comb begin
        for (int lane = 0; lane < LANES; lane++) begin
            out[lane] = lane < int'(used) ? extend(in[lane]) - subtrahend : '0;
        end
    end
endmodule
