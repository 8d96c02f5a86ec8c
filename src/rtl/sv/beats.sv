// Counts the beats of streams: a beat is a row of values, which comes at the end of its `beat_cycles` cycles. Says too when
// the array could take the next stream.
module beats
    import systole_pkg::stream_command_t;
#(
    parameter int COUNT_BITS = 32,
    // The least time between the starts of two streams.
    parameter int MIN_STREAM = 1
) (
    input  logic                  clk,
    input  logic                  rst,
    input  logic                  start,
    input  stream_command_t       command,
    // The command of the stream that runs, from its first cycle on.
    output stream_command_t       running,
    output logic                  beat,
    output logic                  first,
    output logic                  last,
    output logic [COUNT_BITS-1:0] index,
    // Cycles that the command takes.
    output logic [COUNT_BITS-1:0] stretch,
    // Whether a stream may start in this cycle.
    output logic                  idle
);
    stream_command_t held;
    logic active;
    logic [COUNT_BITS-1:0] next_index, phase, next_phase;
    assign running = start ? command : held;
    assign index = start ? '0 : next_index;
    assign phase = start ? '0 : next_phase;
    assign beat = (start || active) && phase + 1'b1 == running.beat_cycles;
    assign first = beat && index == '0;
    assign last = beat && index + 1'b1 == running.beats;
    always_ff @(posedge clk) begin
        held <= running;
        next_index <= beat ? index + 1'b1 : index;
        next_phase <= beat ? '0 : phase + 1'b1;
        active <= !rst && (start || active) && !last;
    end

    logic [COUNT_BITS-1:0] busy, occupied;
    assign stretch = command.beats * command.beat_cycles;
    assign occupied = stretch > COUNT_BITS'(MIN_STREAM) ? stretch : COUNT_BITS'(MIN_STREAM);
    assign idle = busy == '0;
    always_ff @(posedge clk) begin
        if (rst) busy <= '0;
        else if (start) busy <= occupied - 1'b1;
        else if (!idle) busy <= busy - 1'b1;
    end
endmodule
