use super::topology::parse;
use super::*;
use crate::ir::Op;

fn convolutions(rows: &str) -> Topology {
    parse(&format!("Layer name, IFMAP Height,\n{rows}"), "t.csv", None)
}

#[test]
fn rows_are_read_as_scale_sim_reads_them() {
    let topology = convolutions("Conv A, 9,7 ,3,\t2,4, 10,2,\n\n ,,,\nb,+8,8,8,8,1,1,1\r\n");
    assert_eq!(topology.form, Form::Convolutions);
    let expected = [
        ("Conv A", 2, Convolution { ifmap: [9, 7], filter: [3, 2], channels: 4, filters: 10, stride: 2 }),
        ("b", 5, Convolution { ifmap: [8, 8], filter: [8, 8], channels: 1, filters: 1, stride: 1 }),
    ];
    let expected = expected.map(|(name, line, convolution)| Layer { name: name.to_owned(), line, convolution });
    assert_eq!(topology.layers, expected);
    assert!(topology.findings.is_empty(), "{:?}", topology.findings);
    // It rounds up: (7 - 2) / 2 leaves a remainder.
    assert_eq!(expected[0].convolution.output(), [4, 4]);
}

#[test]
fn a_bad_row_is_named_and_the_others_are_read() {
    let bad = [
        ("heading,", "ends early"),
        ("a,1,1,1,1,1,1", "stride is a whole number"),
        ("a,0,1,1,1,1,1,1,", "ifmap height is a whole number from 1 to 2^31: `0`"),
        ("a,1,-1,1,1,1,1,1,", "ifmap width is a whole number from 1 to 2^31: `-1`"),
        ("a,1,1,1,1,B,1,1,", "channels is a whole number from 1 to 2^31: `B`"),
        ("a,1,1,1,1,1 2,1,1,", "channels is a whole number"),
        ("a,1,1,1,1,1e3,1,1,", "`1e3`"),
        ("a,1,1,1,1,2147483649,1,1,", "`2147483649`"),
        ("a,1,1,1,1,99999999999999999999999999,1,1,", "channels"),
        ("a,3,3,4,1,1,1,1,", "a filter is not larger than the padded map: 4x1 on 3x3"),
    ];
    for (row, message) in bad {
        let topology = convolutions(&format!("x,1,1,1,1,1,1,1,\n{row}\ny,1,1,1,1,1,1,1,"));
        let names: Vec<&str> = topology.layers.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["x", "y"], "{row}");
        let finding = topology.findings[0].to_string();
        assert!(finding.starts_with("t.csv:3:1: ") && finding.contains(message), "{row}: {finding}");
        assert_eq!(topology.findings.len(), 1, "{row}");
    }
}

#[test]
fn what_stands_behind_the_stride_is_told_once() {
    let topology = convolutions("a,1,1,1,1,1,1,1,2:4,\nb,1,1,1,1,1,1,1,4,\n");
    assert_eq!(topology.layers.len(), 2);
    assert_eq!(topology.findings.len(), 1);
    assert!(topology.findings[0].to_string().contains("`2:4`"), "{}", topology.findings[0]);
}

#[test]
fn the_heading_tells_products_and_the_first_line_is_always_one() {
    let products = parse("Layer, M, N, K,\nL0, 3, 5, 16, 3:4,\n", "g.csv", None);
    assert_eq!(products.form, Form::Products);
    assert_eq!(products.layers[0].convolution, Convolution::product(3, 5, 16));
    let forced = parse("Layer,M,N,K\nL0,3,5,16\n", "g.csv", Some(Form::Convolutions));
    assert!(forced.layers.is_empty());
    let headless = parse("a,1,1,1,1,1,1,1,\nb,1,1,1,1,1,1,1,\n", "h.csv", None);
    assert_eq!(headless.layers.len(), 1);
    assert!(headless.findings[0].to_string().contains("taken for a heading"), "{}", headless.findings[0]);
}

#[test]
fn endless_lines_and_endless_files_stay_short_in_words() {
    let long = "9,".repeat(1 << 18);
    let topology = convolutions(&format!("{long}\nname,{},1,1,1,1,1,1,\nok,1,1,1,1,1,1,1", "7".repeat(1 << 20)));
    assert_eq!(topology.layers.len(), 2);
    assert!(topology.findings.iter().all(|finding| finding.to_string().len() < 400));
    let many = "a,1,1,1,1,1,1,1,\n".repeat((1 << 16) + 5);
    let topology = convolutions(&many);
    assert_eq!(topology.layers.len(), 1 << 16);
    assert!(topology.findings[0].to_string().contains("the limit is 65536 layers"), "{}", topology.findings[0]);
}

#[test]
fn runs_are_the_addresses_of_the_products_one_by_one() {
    let layers = [
        Convolution { ifmap: [5, 6], filter: [3, 2], channels: 3, filters: 1, stride: 1 },
        Convolution { ifmap: [5, 5], filter: [1, 1], channels: 2, filters: 1, stride: 3 },
        Convolution { ifmap: [7, 6], filter: [3, 3], channels: 1, filters: 1, stride: 2 },
        Convolution { ifmap: [4, 9], filter: [2, 4], channels: 2, filters: 1, stride: 3 },
    ];
    for layer in layers {
        let [height, width] = layer.output();
        let products = layer.filter[0] * layer.filter[1] * layer.channels;
        let plain = |window: u64, product: u64| {
            let (tap, channel) = (product / layer.channels, product % layer.channels);
            let row = window / width * layer.stride + tap / layer.filter[1];
            let col = window % width * layer.stride + tap % layer.filter[1];
            let inside = row < layer.ifmap[0] && col < layer.ifmap[1];
            inside.then(|| (row * layer.ifmap[1] + col) * layer.channels + channel)
        };
        for window in 0..height * width {
            for from in 0..products {
                assert_eq!(layer.address(window, from), plain(window, from), "{layer:?} {window} {from}");
                for to in from..=products {
                    let runs: Vec<u64> = layer.runs(window, from..to).flatten().collect();
                    let expected: Vec<u64> = (from..to).filter_map(|product| plain(window, product)).collect();
                    assert_eq!(runs, expected, "{layer:?} {window} {from}..{to}");
                }
            }
            let last = (0..products).rev().find(|&product| plain(window, product).is_some());
            assert_eq!(layer.last_product(window), last, "{layer:?} {window}");
        }
        for product in 0..products {
            let last = (0..height * width).rev().find(|&window| plain(window, product).is_some());
            assert_eq!(layer.last_window(product), last, "{layer:?} {product}");
        }
    }
}

#[test]
fn layers_stand_side_by_side_and_outputs_are_rounded_down() {
    let topology = convolutions("a,9,7,3,2,4,10,2,\na,5,5,5,5,1,3,1,\n");
    let graph = graph(&topology, "net", 2).unwrap();
    assert_eq!((graph.inputs.len(), graph.outputs.len(), graph.nodes.len()), (2, 2, 2));
    assert_eq!(graph.value(graph.inputs[0]).shape, [2, 4, 9, 7]);
    assert_eq!(graph.value(graph.outputs[0]).shape, [2, 10, 4, 3]);
    assert_eq!(graph.nodes[1].name, "a (line 3)");
    assert!(matches!(graph.nodes[0].op, Op::Conv { groups: 1, .. }));
    let products = parse("L,M,N,K\nL0,3,5,16\n", "g.csv", None);
    let graph = super::graph(&products, "net", 2).unwrap();
    assert_eq!(graph.value(graph.inputs[0]).shape, [6, 16]);
    assert_eq!(graph.value(graph.outputs[0]).shape, [6, 5]);
}

#[test]
fn a_layer_that_no_simulation_holds_is_named() {
    let topology = convolutions("big,2147483648,2147483648,1,1,2147483648,2147483648,1,\n");
    let faults = graph(&topology, "net", 1).unwrap_err().to_string();
    assert!(faults.contains("layer \"big\", line 2"), "{faults}");
}
