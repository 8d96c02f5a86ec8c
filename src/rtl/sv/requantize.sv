// From an accumulator to an output of the layer, two cycles later:
// `clamp(round((accumulator + bias) * multiplier * 2^-shift) + zero_point)`.
//
// FIXED_DOUBLE_31: `shift` is -e; a doubling high multiply by `multiplier * 2^-31` rounds half away from zero, then a right
// shift does. FIXED_SINGLE_31: one rounding, half up, of `multiplier * 2^(e - 31)`. FIXED_MUL: one rounding as ROUNDING says.
module requantize
    import systole_pkg::requantizer_t, systole_pkg::rounding_t, systole_pkg::FIXED_DOUBLE_31, systole_pkg::FIXED_SINGLE_31,
           systole_pkg::HALF_EVEN, systole_pkg::HALF_AWAY, systole_pkg::HALF_UP, systole_pkg::FLOOR;
#(
    parameter requantizer_t KIND      = FIXED_DOUBLE_31,
    parameter rounding_t    ROUNDING  = HALF_AWAY,
    parameter int           BITS      = 32,
    parameter bit           SATURATE  = 0
) (
    input  logic                   clk,
    input  logic signed [BITS-1:0] accumulator,
    input  logic signed [31:0]     bias,
    input  logic signed [31:0]     multiplier,
    // To the right; FIXED_DOUBLE_31 and FIXED_SINGLE_31: -31 at least, the multiplier's 31 bits not counted.
    input  logic signed [7:0]      shift,
    input  logic signed [31:0]     zero_point,
    input  logic signed [31:0]     low,
    input  logic signed [31:0]     high,
    output logic signed [31:0]     out
);
    // A shift to the left of at most 31 bits, a multiplier of 32, and room for what is added to round.
    localparam int WIDE = BITS + 31 + 32 + 2;

    function automatic logic signed [WIDE-1:0] round_shift(input logic signed [WIDE-1:0] value, input logic [7:0] by,
                                                           input rounding_t rounding);
        logic signed [WIDE-1:0] floor, rest, half;
        logic up;
        if (by == 0) return value;
        // All that is left is the sign.
        if (int'(by) >= WIDE - 1) return rounding == FLOOR && value < 0 ? -1 : 0;
        floor = value >>> by;
        rest = value - (floor << by);
        half = WIDE'(1) << (by - 1);
        case (rounding)
            FLOOR:   up = 1'b0;
            HALF_UP: up = rest >= half;
            HALF_AWAY: up = rest > half || (rest == half && value >= 0);
            default: up = rest > half || (rest == half && floor[0]);
        endcase
        return floor + WIDE'({1'b0, up});
    endfunction

    logic signed [BITS-1:0] biased;
    adder #(
        .A_BITS  (BITS),
        .B_BITS  (32),
        .SATURATE(SATURATE)
    ) add_bias (
        .a  (accumulator),
        .b  (bias),
        .sum(biased)
    );

    logic signed [WIDE-1:0] product, scaled, placed;
    logic signed [7:0] product_shift;
    logic signed [31:0] late_zero, late_low, late_high;
    if (KIND == FIXED_DOUBLE_31) begin : g_double
        localparam logic signed [WIDE-1:0] HALF = WIDE'(1) << 30;
        localparam logic signed [WIDE-1:0] REST = (WIDE'(1) << 31) - 1;
        logic signed [WIDE-1:0] exact, nudged, toward_zero;
        assign exact = (WIDE'(biased) << (shift < 0 ? -shift : 8'sd0)) * WIDE'(multiplier);
        assign nudged = exact + (exact < 0 ? 1 - HALF : HALF);
        // Division that truncates toward zero.
        assign toward_zero = nudged < 0 ? nudged + REST : nudged;
        always_ff @(posedge clk) product <= toward_zero >>> 31;
        assign scaled = round_shift(product, product_shift < 0 ? 8'd0 : product_shift, HALF_AWAY);
    end else begin : g_single
        localparam bit BELOW_31 = KIND == FIXED_SINGLE_31;
        always_ff @(posedge clk) product <= WIDE'(biased) * WIDE'(multiplier);
        assign scaled = round_shift(product, product_shift + (BELOW_31 ? 8'd31 : 8'd0), BELOW_31 ? HALF_UP : ROUNDING);
    end
    assign placed = scaled + WIDE'(late_zero);
    always_ff @(posedge clk) begin
        {product_shift, late_zero, late_low, late_high} <= {shift, zero_point, low, high};
        out <= placed < WIDE'(late_low) ? late_low : placed > WIDE'(late_high) ? late_high : placed[31:0];
    end
endmodule
