// The accumulators behind the array, a bank a lane. A result replaces an accumulator or is added to it; what a lane reads
// to inject it into the array again is what stands there at the end of the cycle.
module accumulators #(
    parameter int LANES        = 4,
    parameter int DEPTH        = 256,
    parameter int ADDRESS_BITS = 8,
    parameter int BITS         = 32,
    parameter int SUM_BITS     = 32,
    parameter bit SATURATE     = 0
) (
    input  logic                               clk,
    input  logic [LANES-1:0]                   write,
    input  logic [LANES-1:0][ADDRESS_BITS-1:0] write_address,
    input  logic [LANES-1:0]                   accumulate,
    input  logic [LANES-1:0][SUM_BITS-1:0]     sum,
    output logic [LANES-1:0][BITS-1:0]         written,
    input  logic [LANES-1:0][ADDRESS_BITS-1:0] read_address,
    output logic [LANES-1:0][BITS-1:0]         read
);
    for (genvar lane = 0; lane < LANES; lane++) begin : g_lane
        logic signed [BITS-1:0] word[DEPTH];
        logic signed [BITS-1:0] start, after;
        assign start = accumulate[lane] ? word[write_address[lane]] : '0;
        adder #(
            .A_BITS  (BITS),
            .B_BITS  (SUM_BITS),
            .SATURATE(SATURATE)
        ) add (
            .a  (start),
            .b  (sum[lane]),
            .sum(after)
        );
        always_ff @(posedge clk) if (write[lane]) word[write_address[lane]] <= after;
        assign written[lane] = after;
        assign read[lane] = write[lane] && write_address[lane] == read_address[lane] ? after : word[read_address[lane]];
    end
endmodule
