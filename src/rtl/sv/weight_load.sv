// The steps of a load of the stationary operand: PERIOD cycles, in which STEPS steps end as evenly as they can. Step `g`
// is taken by the elements at the end of cycle `ceil((g + 1) * PERIOD / STEPS) - 1` of the load.
module weight_load #(
    parameter int PERIOD       = 4,
    parameter int STEPS        = 4,
    parameter int STEP_BITS    = 2,
    parameter int ADDRESS_BITS = 32,
    // A chain is loaded from its far end: the last rows first.
    parameter bit LAST_FIRST   = 0
) (
    input  logic                    clk,
    input  logic                    rst,
    input  logic                    start,
    input  logic [ADDRESS_BITS-1:0] base,
    // Whether another load may start in this cycle.
    output logic                    idle,
    output logic                    strobe,
    output logic [STEP_BITS-1:0]    step,
    output logic [ADDRESS_BITS-1:0] address
);
    localparam int CYCLE_BITS = $clog2(PERIOD + 1);
    localparam int CREDIT_BITS = $clog2(PERIOD + STEPS + 1);
    logic [CYCLE_BITS-1:0] left;  // Cycles of the load after this one.
    logic [CREDIT_BITS-1:0] credit, credit_now, credit_next;
    logic [STEP_BITS-1:0] next_step;
    logic [ADDRESS_BITS-1:0] held_base, base_now;

    assign idle = left == '0;
    assign base_now = start ? base : held_base;
    assign step = start ? '0 : next_step;
    assign credit_now = (start ? '0 : credit) + CREDIT_BITS'(STEPS);
    assign strobe = (start || !idle) && credit_now >= CREDIT_BITS'(PERIOD);
    assign credit_next = strobe ? credit_now - CREDIT_BITS'(PERIOD) : credit_now;
    assign address = base_now + ADDRESS_BITS'(LAST_FIRST ? STEPS - 1 - int'(step) : int'(step));

    always_ff @(posedge clk) begin
        if (rst) left <= '0;
        else if (start) left <= CYCLE_BITS'(PERIOD - 1);
        else if (!idle) left <= left - 1'b1;
        held_base <= base_now;
        credit <= credit_next;
        next_step <= strobe ? step + 1'b1 : step;
    end
endmodule
