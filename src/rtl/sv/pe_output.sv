// A processing element whose sum stays. Pairs of values that come with `valid` are multiplied and added; the last one of
// a tile that does not hold its sum is followed by a copy to the chain on which sums leave, where it waits for `go`.
module pe_output #(
    parameter int LEFT_BITS = 8,
    parameter int TOP_BITS  = 8,
    parameter int SUM_BITS  = 32,
    parameter bit SATURATE  = 0,
    parameter int PIPELINE  = 0
) (
    input  logic                        clk,
    input  logic                        rst,
    input  logic                        valid,
    // The sum begins at zero; it is complete; it stays.
    input  logic                        first,
    input  logic                        last,
    input  logic                        hold,
    input  logic signed [LEFT_BITS-1:0] left,
    input  logic signed [TOP_BITS-1:0]  top,
    // The sum became complete in the cycle before.
    output logic                        complete,
    // The chain: from the neighbour before, to the one behind.
    input  logic                        chain_in_valid,
    input  logic signed [SUM_BITS-1:0]  chain_in,
    input  logic                        go,
    output logic                        waiting,
    output logic                        chain_out_valid,
    output logic signed [SUM_BITS-1:0]  chain_out
);
    localparam int PRODUCT_BITS = LEFT_BITS + TOP_BITS;
    logic signed [PRODUCT_BITS-1:0] product, late_product;
    logic late_valid, late_first, late_last, late_hold;
    assign product = PRODUCT_BITS'(left) * PRODUCT_BITS'(top);
    delay #(
        .STAGES(PIPELINE),
        .WIDTH (PRODUCT_BITS + 4)
    ) pipeline (
        .clk(clk),
        .rst(rst),
        .in ({product, valid, first, last, hold}),
        .out({late_product, late_valid, late_first, late_last, late_hold})
    );

    logic signed [SUM_BITS-1:0] sum, start, after;
    assign start = late_first ? '0 : sum;
    adder #(
        .A_BITS  (SUM_BITS),
        .B_BITS  (PRODUCT_BITS),
        .SATURATE(SATURATE)
    ) add (
        .a  (start),
        .b  (late_product),
        .sum(after)
    );
    logic copy, full;
    logic signed [SUM_BITS-1:0] chain;
    always_ff @(posedge clk) begin
        if (rst) sum <= '0;
        else if (late_valid) sum <= after;
        complete <= !rst && late_valid && late_last;
        copy <= !rst && late_valid && late_last && !late_hold;
    end

    // Sums that come from the neighbour go on at once; the element's own waits until the last element's is there.
    assign chain_out_valid = full && (!waiting || go);
    assign chain_out = chain;
    always_ff @(posedge clk) begin
        if (rst) {full, waiting} <= '0;
        else if (copy) {full, waiting} <= '1;
        else if (chain_in_valid) {full, waiting} <= 2'b10;
        else if (chain_out_valid) {full, waiting} <= '0;
        if (copy) chain <= sum;
        else if (chain_in_valid) chain <= chain_in;
    end
endmodule
