// Runs one array program on the design and judges it: every accumulator as it is written, and the cycles in which every
// command begins and ends. The program and what is expected are in the hex files of a folder:
//
//   simulation +dir=FOLDER [+print] [+vcd=FILE]
//
// `+print` also prints what was observed; `+vcd` writes a waveform, where the simulator was built to. The last line has the
// counts; a difference is told on a line of its own.
// Counters of the testbench are written in tasks, in order: with blocking assignments.
// verilator lint_off BLKSEQ
module tb;
    import systole_pkg::*;

    // Entries of each file at most.
    localparam int COMMANDS = 1 << 13;
    localparam int OPERAND_ROWS = 1 << 17;
    localparam int RESULTS = 1 << 21;

    string folder, waveform;
    logic printing;
    // `sizes`: loads, streams, tiles that leave the array, cycles to run, rows to requantize.
    logic [31:0] sizes[5];
    logic [479:0] stream_words[COMMANDS];
    logic [63:0] stream_expected[COMMANDS];
    logic [63:0] tiles[COMMANDS];
    logic [ROWS-1:0][LEFT_BITS-1:0] left_rows[OPERAND_ROWS];
    logic [31:0] lane_base[LANES+1];
    logic [ACCUMULATOR_BITS-1:0] expected[RESULTS];
//: if STATIONARY
    logic [159:0] load_words[COMMANDS];
    logic [63:0] load_expected[COMMANDS];
    logic [SIDE-1:0][COLS-1:0][TOP_BITS-1:0] top_rows[OPERAND_ROWS];
//: else
    logic [COLS-1:0][TOP_BITS-1:0] top_rows[OPERAND_ROWS];
//: end
//: if REQUANTIZE
    // An address, zero point and limits; a bias, multiplier and shift a lane; whether a lane counts, and its output.
    logic [127:0] quantize_words[COMMANDS];
    logic [LANES-1:0][95:0] quantize_lanes[COMMANDS];
    logic [LANES-1:0][63:0] quantize_expected[COMMANDS];
//: end

    logic clk = 1'b0;
    logic rst = 1'b1;
    logic [31:0] cycle = '0;
    always #1 clk = !clk;

    initial begin
        if (!$value$plusargs("dir=%s", folder)) folder = ".";
        printing = $test$plusargs("print") != 0;
        if ($value$plusargs("vcd=%s", waveform)) begin
            $dumpfile(waveform);
            $dumpvars(0, tb);
        end
        $readmemh({folder, "/sizes.hex"}, sizes);
        $readmemh({folder, "/streams.hex"}, stream_words);
        $readmemh({folder, "/streams_expected.hex"}, stream_expected);
        $readmemh({folder, "/tiles.hex"}, tiles);
        $readmemh({folder, "/left.hex"}, left_rows);
        $readmemh({folder, "/top.hex"}, top_rows);
        $readmemh({folder, "/lanes.hex"}, lane_base);
        $readmemh({folder, "/results.hex"}, expected);
//: if STATIONARY
        $readmemh({folder, "/loads.hex"}, load_words);
        $readmemh({folder, "/loads_expected.hex"}, load_expected);
//: end
//: if REQUANTIZE
        $readmemh({folder, "/quantize.hex"}, quantize_words);
        $readmemh({folder, "/quantize_lanes.hex"}, quantize_lanes);
        $readmemh({folder, "/quantize_expected.hex"}, quantize_expected);
//: end
        repeat (4) @(negedge clk);
        rst = 1'b0;
    end

    int outputs = 0;
    int cycles = 0;
    int differences = 0;
    task automatic differs(input string what, input int index, input logic [63:0] found, input logic [63:0] wanted);
        differences++;
        if (differences <= 20) $display("%s %0d: %0d (%h), expected %0d (%h)", what, index, found, found, wanted, wanted);
    endtask

    // The next command of each kind, and when each began and ended.
    logic [31:0] next_stream = '0;
//: if STATIONARY
//: else
    logic [31:0] completes = '0;
//: end
    int stream_start[COMMANDS];
    int stream_end[COMMANDS];
    logic [479:0] word;
    stream_command_t stream_command;
    logic stream_valid, stream_ready;
    assign word = stream_words[next_stream[$clog2(COMMANDS)-1:0]];
    assign stream_valid = !rst && next_stream < sizes[1] && cycle >= word[479:448];
    // Fields are 32 bits each, whatever the design's widths.
    logic unused_fields;
    assign unused_fields = &{1'b0, word};
    always_comb begin
        stream_command = '0;
//: if STATIONARY
        stream_command.loads_before = word[447:416];
        stream_command.takes = word[384];
//: else
        stream_command.resume = word[320];
        stream_command.hold = word[288];
        stream_command.top_base = word[159:128];
        stream_command.top_zero = word[TOP_BITS-1:0];
//: end
        stream_command.accumulate = word[352];
        stream_command.beats = word[287:256];
        stream_command.beat_cycles = word[255:224];
        stream_command.left_base = word[223:192];
        stream_command.address = word[96+:ADDRESS_BITS];
        stream_command.rows = word[160+:ROW_COUNT_BITS];
        stream_command.cols = word[64+:COL_COUNT_BITS];
        stream_command.left_zero = word[32+:LEFT_BITS];
    end

    logic [31:0] left_address, top_address;
    logic [LANES-1:0] result_valid, result_last;
    logic [LANES-1:0][ACCUMULATOR_BITS-1:0] result, read;
    logic [ADDRESS_BITS-1:0] read_address;
//: if REQUANTIZE
    logic [127:0] quantize;
    logic [LANES-1:0][31:0] bias, multiplier, quantized;
    logic [LANES-1:0][7:0] shift;
//: end
//: if STATIONARY
    logic [31:0] next_load = '0;
    logic [31:0] loads_done = '0;
    int load_start[COMMANDS];
    int load_end[COMMANDS];
    logic [159:0] load_word;
    load_command_t load_command;
    logic load_valid, load_ready, load_done, read_valid;
    assign load_word = load_words[next_load[$clog2(COMMANDS)-1:0]];
    assign load_valid = !rst && next_load < sizes[0] && cycle >= load_word[159:128];
    logic unused_load;
    assign unused_load = &{1'b0, load_word};
    always_comb begin
        load_command.streams_before = load_word[127:96];
        load_command.replaces = load_word[64];
        load_command.base = load_word[63:32];
        load_command.zero = load_word[TOP_BITS-1:0];
    end
    systole_top top (
        .clk           (clk),
        .rst           (rst),
        .load_valid    (load_valid),
        .load_command  (load_command),
        .load_ready    (load_ready),
        .load_done     (load_done),
        .stream_valid  (stream_valid),
        .stream_command(stream_command),
        .stream_ready  (stream_ready),
        .left_address  (left_address),
        .left_row      (left_rows[left_address[$clog2(OPERAND_ROWS)-1:0]]),
        .top_address   (top_address),
        .top_rows      (top_rows[top_address[$clog2(OPERAND_ROWS)-1:0]]),
        .result_valid  (result_valid),
        .result_last   (result_last),
        .result        (result),
        .read_valid    (read_valid),
//: if REQUANTIZE
        .bias          (bias),
        .multiplier    (multiplier),
        .shift         (shift),
        .zero_point    (quantize[95:64]),
        .low           (quantize[63:32]),
        .high          (quantize[31:0]),
        .quantized     (quantized),
//: end
        .read_address  (read_address),
        .read          (read)
    );
//: else
    logic complete;
    systole_top top (
        .clk           (clk),
        .rst           (rst),
        .stream_valid  (stream_valid),
        .stream_command(stream_command),
        .stream_ready  (stream_ready),
        .left_address  (left_address),
        .left_row      (left_rows[left_address[$clog2(OPERAND_ROWS)-1:0]]),
        .top_address   (top_address),
        .top_row       (top_rows[top_address[$clog2(OPERAND_ROWS)-1:0]]),
        .complete      (complete),
        .result_valid  (result_valid),
        .result_last   (result_last),
        .result        (result),
//: if REQUANTIZE
        .bias          (bias),
        .multiplier    (multiplier),
        .shift         (shift),
        .zero_point    (quantize[95:64]),
        .low           (quantize[63:32]),
        .high          (quantize[31:0]),
        .quantized     (quantized),
//: end
        .read_address  (read_address),
        .read          (read)
    );
//: end
    logic unused_address;
    assign unused_address = &{1'b0, left_address, top_address, read};

    // A lane writes its results in the order of the program, and ends its tiles in it.
    int lane_results[LANES];
    int lane_tiles[LANES];
    initial begin
        for (int i = 0; i < COMMANDS; i++) begin
            stream_start[i] = -1;
            stream_end[i] = -1;
        end
        for (int lane = 0; lane < LANES; lane++) begin
            lane_results[lane] = 0;
            lane_tiles[lane] = 0;
        end
    end

    task automatic observe();
        if (stream_ready) begin
            stream_start[next_stream[$clog2(COMMANDS)-1:0]] = cycle;
            next_stream <= next_stream + 1;
        end
//: if STATIONARY
        if (load_done) begin
            load_end[loads_done[$clog2(COMMANDS)-1:0]] = cycle + 1;
            loads_done = loads_done + 1;
        end
        if (load_ready) begin
            load_start[next_load[$clog2(COMMANDS)-1:0]] = cycle;
            next_load <= next_load + 1;
        end
//: else
        if (complete) begin
            if (stream_words[completes[$clog2(COMMANDS)-1:0]][288])
                stream_end[completes[$clog2(COMMANDS)-1:0]] = cycle;
            completes = completes + 1;
        end
//: end
        for (int lane = 0; lane < LANES; lane++) begin
            if (result_valid[lane]) begin
                int index;
                index = int'(lane_base[lane]) + lane_results[lane];
                if (printing) $display("result %0d %h", lane, result[lane]);
                if (index >= int'(lane_base[lane+1])) differs("a result too many of lane", lane, 64'(result[lane]), 0);
                else if (result[lane] != expected[index[$clog2(RESULTS)-1:0]])
                    differs($sformatf("result %0d of lane", lane_results[lane]), lane, 64'(result[lane]),
                            64'(expected[index[$clog2(RESULTS)-1:0]]));
                lane_results[lane]++;
                outputs++;
            end
            if (result_last[lane]) begin
                int stream, lanes;
                {stream, lanes} = tiles[lane_tiles[lane][$clog2(COMMANDS)-1:0]];
                if (lanes == lane + 1 && stream < COMMANDS) stream_end[stream] = cycle;
                lane_tiles[lane]++;
            end
        end
    endtask

    task automatic judge();
        int last;
        last = 0;
//: if STATIONARY
        for (int i = 0; i < int'(sizes[0]); i++) begin
            cycles += 2;
            if (i >= int'(loads_done)) begin
                load_end[i] = -1;
                if (i >= int'(next_load)) load_start[i] = -1;
            end
            if (printing) $display("load %0d %0d %0d", i, load_start[i], load_end[i]);
            if (load_start[i] != int'(load_expected[i][63:32]))
                differs("start of load", i, 64'(load_start[i]), 64'(load_expected[i][63:32]));
            if (load_end[i] != int'(load_expected[i][31:0]))
                differs("end of load", i, 64'(load_end[i]), 64'(load_expected[i][31:0]));
        end
//: end
        for (int i = 0; i < int'(sizes[1]); i++) begin
            cycles += 2;
            // A stream ends when its results and those of all before it are out.
            if (stream_end[i] > last) last = stream_end[i];
            if (stream_end[i] < 0) last = -1;
            if (printing) $display("stream %0d %0d %0d", i, stream_start[i], last);
            if (stream_start[i] != int'(stream_expected[i][63:32]))
                differs("start of stream", i, 64'(stream_start[i]), 64'(stream_expected[i][63:32]));
            if (last != int'(stream_expected[i][31:0]))
                differs("end of stream", i, 64'(last), 64'(stream_expected[i][31:0]));
        end
        for (int lane = 0; lane < LANES; lane++) begin
            if (lane_results[lane] != int'(lane_base[lane+1] - lane_base[lane]))
                differs("results of lane", lane, 64'(lane_results[lane]), 64'(lane_base[lane+1]) - 64'(lane_base[lane]));
        end
    endtask

    // Behind the program: rows of accumulators through the requantization stage.
    int row = 0;
    logic behind = 1'b0;
//: if STATIONARY
    assign read_valid = behind;
//: end
//: if REQUANTIZE
    assign quantize = quantize_words[row[$clog2(COMMANDS)-1:0]];
    assign read_address = quantize[96+:ADDRESS_BITS];
    logic unused_quantize;
    assign unused_quantize = &{1'b0, quantize};
    for (genvar lane = 0; lane < LANES; lane++) begin : g_quantize
        logic [95:0] parameters;
        assign parameters = quantize_lanes[row[$clog2(COMMANDS)-1:0]][lane];
        logic unused_parameters;
        assign unused_parameters = &{1'b0, parameters};
        assign {bias[lane], multiplier[lane]} = parameters[95:32];
        assign shift[lane] = parameters[7:0];
    end
    task automatic observe_quantized();
        for (int lane = 0; lane < LANES; lane++) begin
            int counts, wanted;
            {counts, wanted} = quantize_expected[row-2][lane];
            if (counts != 0) begin
                outputs++;
                if (printing) $display("quantized %0d %0d %0d", row - 2, lane, $signed(quantized[lane]));
                if (quantized[lane] != wanted)
                    differs($sformatf("requantized row %0d of lane", row - 2), lane, 64'(quantized[lane]),
                            64'($unsigned(wanted)));
            end
        end
    endtask
//: else
    assign read_address = '0;
//: end

    // What a cycle shows is read at its end, before the edge changes it.
    always @(posedge clk) begin
        if (!rst && !behind) begin
            observe();
            cycle <= cycle + 1;
            if (cycle == sizes[3]) behind <= 1'b1;
        end else if (behind) begin
//: if REQUANTIZE
            if (row >= 2) observe_quantized();
//: end
            row <= row + 1;
            if (row == int'(sizes[4]) + 1) begin
                judge();
                $display("%0d outputs, %0d cycles, %0d differences", outputs, cycles, differences);
                $finish;
            end
        end
    end
endmodule
