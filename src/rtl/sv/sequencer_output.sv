// Executes streams of an array whose sums stay. A command begins in the cycle in which it is taken: when `valid` is set and
// nothing in the array is in its way. All waiting is by timers of fixed length (see systole_pkg): the array has no stall.
module sequencer_output
    import systole_pkg::stream_command_t;
#(
    parameter int COUNT_BITS = 32,
    parameter int LANES      = 4,
    // Sums leave along the rows: a lane is a row.
    parameter bit ALONG_ROWS = 0,
    parameter int MIN_STREAM = 1,
    parameter bit OVERLAP    = 1,
    // From a stream's end until its sums are complete; until the last is out, all lanes; less for a lane that is not used.
    parameter int COMPLETE   = 6,
    parameter int LATENCY    = 10,
    parameter int LANE_SKEW  = 0,
    // How long the chain that shifts out is taken.
    parameter int DRAIN      = 4
) (
    input  logic                  clk,
    input  logic                  rst,
    input  logic                  stream_valid,
    input  stream_command_t       stream_command,
    output logic                  stream_start,
    output logic                  beat,
    output logic                  first_beat,
    output logic                  last_beat,
    output logic [COUNT_BITS-1:0] beat_index,
    output stream_command_t       running
);
    logic [COUNT_BITS-1:0] stretch;
    logic idle;
    beats #(
        .COUNT_BITS(COUNT_BITS),
        .MIN_STREAM(MIN_STREAM)
    ) streamer (
        .clk    (clk),
        .rst    (rst),
        .start  (stream_start),
        .command(stream_command),
        .running(running),
        .beat   (beat),
        .first  (first_beat),
        .last   (last_beat),
        .index  (beat_index),
        .stretch(stretch),
        .idle   (idle)
    );

    // Until the last result, or complete sum, of all streams is there.
    logic [COUNT_BITS-1:0] draining, remaining, latency, out;
    logic [31:0] lanes;
    assign lanes = ALONG_ROWS ? 32'(stream_command.rows) : 32'(stream_command.cols);
    assign latency = stream_command.hold ? COUNT_BITS'(COMPLETE)
                   : COUNT_BITS'(LATENCY) - COUNT_BITS'(LANE_SKEW) * (COUNT_BITS'(LANES) - lanes);
    assign out = stretch + latency - 1'b1;
    assign remaining = draining == '0 ? '0 : draining - 1'b1;
    always_ff @(posedge clk) begin
        if (rst) draining <= '0;
        else draining <= stream_start && out > remaining ? out : remaining;
    end

    // The chain holds one tile: the next may be complete when the one before has left it.
    logic [COUNT_BITS-1:0] chain;
    always_ff @(posedge clk) begin
        if (rst) chain <= '0;
        else if (stream_start && !stream_command.hold) chain <= stretch + COUNT_BITS'(DRAIN) - 1'b1;
        else if (chain != '0) chain <= chain - 1'b1;
    end

    logic clear;
    if (OVERLAP) begin : g_overlap
        assign clear = stream_command.hold || stretch >= chain;
    end else begin : g_apart
        assign clear = stream_command.resume || draining == '0;
    end
    assign stream_start = stream_valid && idle && clear;
endmodule
