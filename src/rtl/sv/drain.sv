// Which accumulators the sums of a tile go to as they leave the chain: one index of the tile after the other, the last
// first, STEP cycles apart.
module drain #(
    parameter int INDICES      = 4,
    parameter int STEP         = 1,
    parameter int ADDRESS_BITS = 8,
    parameter int INDEX_BITS   = 3
) (
    input  logic                    clk,
    input  logic                    rst,
    // A tile's first sum leaves in this cycle.
    input  logic                    start,
    input  logic [ADDRESS_BITS-1:0] start_address,
    // Indices that count.
    input  logic [INDEX_BITS-1:0]   start_used,
    input  logic                    start_accumulate,
    output logic                    write,
    output logic                    last,
    output logic [ADDRESS_BITS-1:0] address,
    output logic                    accumulate
);
    localparam int PHASE_BITS = $clog2(STEP + 1);
    logic active, held_accumulate;
    logic [INDEX_BITS-1:0] index, index_now, used, used_now;
    logic [PHASE_BITS-1:0] phase, phase_now;
    logic [ADDRESS_BITS-1:0] base, base_now;
    assign index_now = start ? INDEX_BITS'(INDICES - 1) : index;
    assign phase_now = start ? '0 : phase;
    assign used_now = start ? start_used : used;
    assign base_now = start ? start_address : base;
    assign accumulate = start ? start_accumulate : held_accumulate;
    logic out;
    assign out = (start || active) && phase_now == '0;
    assign write = out && index_now < used_now;
    assign last = out && index_now == '0;
    assign address = base_now + ADDRESS_BITS'(index_now);
    always_ff @(posedge clk) begin
        active <= !rst && (start || active) && !last;
        index <= out ? index_now - 1'b1 : index_now;
        phase <= phase_now == PHASE_BITS'(STEP - 1) ? '0 : phase_now + 1'b1;
        used <= used_now;
        base <= base_now;
        held_accumulate <= accumulate;
    end
endmodule
