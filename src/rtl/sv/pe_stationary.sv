// A processing element whose operand stays: `sum_out = sum_in + value * weight`, PIPELINE + 1 cycles later.
//
// The next operand waits in one of SLOTS shadow registers. The first value of a stream takes it over (`take`): it is
// multiplied by the shadow register's word, as the active register gets that word at the end of the same cycle. Without
// shadow registers a load overwrites the active register.
module pe_stationary #(
    parameter int VALUE_BITS  = 8,
    parameter int WEIGHT_BITS = 8,
    parameter int SUM_BITS    = 32,
    parameter bit SATURATE    = 0,
    parameter int PIPELINE    = 0,
    parameter int SLOTS       = 1,
    parameter int SLOT_BITS   = 1
) (
    input  logic                          clk,
    input  logic                          rst,
    // The streamed operand.
    input  logic signed [VALUE_BITS-1:0]  value,
    input  logic                          take,
    input  logic        [SLOT_BITS-1:0]   take_slot,
    // The load of the stationary operand.
    input  logic                          load,
    input  logic        [SLOT_BITS-1:0]   load_slot,
    input  logic signed [WEIGHT_BITS-1:0] word,
    // What the last load wrote, for the chain through the elements' own registers.
    output logic signed [WEIGHT_BITS-1:0] held,
    // Partial sums, from above and downwards.
    input  logic signed [SUM_BITS-1:0]    sum_in,
    output logic signed [SUM_BITS-1:0]    sum_out
);
    logic signed [WEIGHT_BITS-1:0] weight;

    if (SLOTS == 0) begin : g_exposed
        logic unused;
        assign unused = &{1'b0, take, take_slot, load_slot};
        logic signed [WEIGHT_BITS-1:0] active;
        always_ff @(posedge clk) if (load) active <= word;
        assign weight = active;
        assign held = active;
    end else begin : g_shadow
        logic signed [WEIGHT_BITS-1:0] active;
        logic signed [WEIGHT_BITS-1:0] shadow[SLOTS];
        assign weight = take ? shadow[take_slot] : active;
        assign held = shadow[0];
        always_ff @(posedge clk) begin
            active <= weight;
            if (load) shadow[load_slot] <= word;
        end
    end

    localparam int PRODUCT_BITS = VALUE_BITS + WEIGHT_BITS;
    logic signed [PRODUCT_BITS-1:0] product, late_product;
    logic signed [SUM_BITS-1:0] late_sum, sum;
    assign product = PRODUCT_BITS'(value) * PRODUCT_BITS'(weight);

    delay #(
        .STAGES(PIPELINE),
        .WIDTH (PRODUCT_BITS + SUM_BITS)
    ) pipeline (
        .clk(clk),
        .rst(rst),
        .in ({product, sum_in}),
        .out({late_product, late_sum})
    );
    adder #(
        .A_BITS  (SUM_BITS),
        .B_BITS  (PRODUCT_BITS),
        .SATURATE(SATURATE)
    ) add (
        .a  (late_sum),
        .b  (late_product),
        .sum(sum)
    );
    always_ff @(posedge clk) sum_out <= rst ? '0 : sum;
endmodule
