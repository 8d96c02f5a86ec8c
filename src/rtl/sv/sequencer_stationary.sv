// Executes loads and streams of an array whose operand stays. A command begins in the cycle in which it is taken: when its
// `valid` is set and nothing in the array is in its way. Loads run ahead of streams as far as the shadow registers go;
// each command says how many of the other kind stand before it in the program.
//
// All waiting is by timers of fixed length (see systole_pkg): the array has no stall.
module sequencer_stationary
    import systole_pkg::load_command_t, systole_pkg::stream_command_t;
#(
    parameter int COLS         = 4,
    parameter int SLOTS        = 1,
    parameter int SLOT_BITS    = 1,
    parameter int COUNT_BITS   = 32,
    // From a load's start until a stream may start; from a first use of what a load overwrites until the load.
    parameter int LOAD         = 4,
    parameter int ROOM         = 0,
    parameter int MIN_STREAM   = 1,
    parameter bit OVERLAP      = 1,
    // From a stream's end to its last result, all columns; less for each column that is not used.
    parameter int LATENCY      = 6,
    parameter int LANE_SKEW    = 0,
    // From a row of values to its sums that can be injected; 0: nothing is injected.
    parameter int INJECT_WAIT  = 0
) (
    input  logic            clk,
    input  logic            rst,
    input  logic            load_valid,
    input  load_command_t   load_command,
    output logic            load_start,
    output logic [SLOT_BITS-1:0] load_slot,
    input  logic            load_idle,
    input  logic            stream_valid,
    input  stream_command_t stream_command,
    output logic            stream_start,
    // A row of values is taken in this cycle, of this command.
    output logic            beat,
    output logic            first_beat,
    output logic            last_beat,
    output logic [COUNT_BITS-1:0] beat_index,
    output logic [SLOT_BITS-1:0] take_slot,
    output stream_command_t running
);
    // Where operands lie is for others.
    logic unused_load;
    assign unused_load = &{1'b0, load_command};
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

    // Until the last result of all streams is out.
    logic [COUNT_BITS-1:0] draining, out, remaining;
    assign out = stretch + COUNT_BITS'(LATENCY) - 1'b1
               - COUNT_BITS'(LANE_SKEW) * (COUNT_BITS'(COLS) - COUNT_BITS'(stream_command.cols));
    assign remaining = draining == '0 ? '0 : draining - 1'b1;
    always_ff @(posedge clk) begin
        if (rst) draining <= '0;
        else draining <= stream_start && out > remaining ? out : remaining;
    end
    logic drained;
    assign drained = OVERLAP || draining == '0;

    // How many loads have reached the elements that a stream meets first.
    logic loaded;
    logic [COUNT_BITS-1:0] loads, loads_now;
    delay #(
        .STAGES(LOAD)
    ) load_delay (
        .clk(clk),
        .rst(rst),
        .in (load_start),
        .out(loaded)
    );
    assign loads_now = loads + COUNT_BITS'(loaded);
    always_ff @(posedge clk) loads <= rst ? '0 : loads_now;

    // Room for a load: the event after which it may follow, ROOM cycles later.
    logic used, room;
    delay #(
        .STAGES(ROOM)
    ) room_delay (
        .clk(clk),
        .rst(rst),
        .in (used),
        .out(room)
    );
    if (SLOTS == 0) begin : g_exposed
        // The last value of every stream before it in the program.
        logic [COUNT_BITS-1:0] streams, streams_now;
        assign used = last_beat;
        assign streams_now = streams + COUNT_BITS'(room);
        always_ff @(posedge clk) streams <= rst ? '0 : streams_now;
        // A stream that starts in this cycle is not counted by `draining` yet.
        logic apart;
        assign apart = OVERLAP || (draining == '0 && !stream_start);
        assign load_start = load_valid && load_idle && apart && streams_now >= load_command.streams_before;
        assign load_slot = '0;
        assign take_slot = '0;
        logic unused;
        assign unused = &{1'b0, load_command.replaces, running.takes};
    end else begin : g_shadow
        // A free shadow register; a load that no stream has used is overwritten.
        localparam int FREE_BITS = $clog2(SLOTS + 1);
        logic [FREE_BITS-1:0] free, free_now;
        logic [SLOT_BITS-1:0] next_load, next_take;
        function automatic logic [SLOT_BITS-1:0] after(input logic [SLOT_BITS-1:0] slot);
            return slot == SLOT_BITS'(SLOTS - 1) ? '0 : slot + 1'b1;
        endfunction
        logic fresh;
        assign used = first_beat && running.takes;
        assign free_now = free + FREE_BITS'(room);
        assign load_start = load_valid && load_idle && (load_command.replaces || free_now != '0);
        assign fresh = load_start && !load_command.replaces;
        assign load_slot = load_command.replaces ? next_load : after(next_load);
        assign take_slot = next_take;
        always_ff @(posedge clk) begin
            free <= rst ? FREE_BITS'(SLOTS) : free_now - FREE_BITS'(fresh);
            if (rst) next_load <= SLOT_BITS'(SLOTS - 1);
            else if (fresh) next_load <= after(next_load);
            if (rst) next_take <= '0;
            else if (used) next_take <= after(next_take);
        end
        logic unused;
        assign unused = &{1'b0, load_command.streams_before};
    end

    // Sums that a stream injects must have come out of every stream before it that wrote them. Rows come a beat each, so that
    // one of the first and the last common row decides.
    logic clear;
    if (INJECT_WAIT == 0) begin : g_add
        assign clear = 1'b1;
    end else begin : g_inject
        // As many streams as can be on their way at once.
        localparam int ENTRIES = INJECT_WAIT / MIN_STREAM + 2;
        typedef struct packed {
            logic                         valid;
            logic signed [COUNT_BITS-1:0] age;
            logic signed [COUNT_BITS-1:0] address;
            logic signed [COUNT_BITS-1:0] beats;
            logic signed [COUNT_BITS-1:0] beat_cycles;
        } entry_t;
        entry_t entry[ENTRIES];
        logic [$clog2(ENTRIES)-1:0] next;
        logic signed [COUNT_BITS-1:0] beats, beat_cycles, address;
        assign beats = $signed(stream_command.beats);
        assign beat_cycles = $signed(stream_command.beat_cycles);
        assign address = COUNT_BITS'({1'b0, stream_command.address});
        logic [ENTRIES-1:0] waits;
        always_comb begin
            for (int i = 0; i < ENTRIES; i++) begin
                // Its row `r + shift` is the command's row `r`.
                logic signed [COUNT_BITS-1:0] shift, first, last, at_first, at_last;
                shift = address - entry[i].address;
                first = shift < 0 ? -shift : '0;
                last = (beats < entry[i].beats - shift ? beats : entry[i].beats - shift) - 1;
                at_first = (first + shift + 1) * entry[i].beat_cycles - (first + 1) * beat_cycles;
                at_last = (last + shift + 1) * entry[i].beat_cycles - (last + 1) * beat_cycles;
                waits[i] = entry[i].valid && first <= last
                    && entry[i].age < (at_first > at_last ? at_first : at_last) + INJECT_WAIT;
            end
        end
        assign clear = !stream_command.accumulate || waits == '0;
        always_ff @(posedge clk) begin
            for (int i = 0; i < ENTRIES; i++) begin
                entry[i].age <= entry[i].age + 1;
                if (rst || entry[i].age > entry[i].beats * entry[i].beat_cycles + INJECT_WAIT) entry[i].valid <= 1'b0;
            end
            if (rst) next <= '0;
            else if (stream_start) begin
                next <= int'(next) == ENTRIES - 1 ? '0 : next + 1'b1;
                entry[next].valid <= 1'b1;
                entry[next].age <= 1;
                entry[next].address <= address;
                entry[next].beats <= beats;
                entry[next].beat_cycles <= beat_cycles;
            end
        end
    end

    assign stream_start = stream_valid && idle && drained && clear && loads_now >= stream_command.loads_before;
endmodule
