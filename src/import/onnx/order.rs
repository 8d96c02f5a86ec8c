//! Which nodes of the file matter, and in what order they can be imported: those that an output needs, each after the
//! ones that it reads.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use super::{limits::clip, proto::NodeProto};

/// The nodes that the outputs need, in topological order that keeps the file's where it can.
///
/// # Errors
/// A sentence that names a cycle.
pub(super) fn live<'m>(
    nodes: &'m [NodeProto],
    made_by: &HashMap<&'m str, usize>,
    outputs: impl Iterator<Item = &'m str>,
) -> Result<Vec<usize>, String> {
    let mut alive = vec![false; nodes.len()];
    let mut waiting: Vec<usize> = outputs.filter_map(|name| made_by.get(name).copied()).collect();
    while let Some(index) = waiting.pop() {
        if !std::mem::replace(&mut alive[index], true) {
            waiting.extend(nodes[index].input.iter().filter_map(|name| made_by.get(name.as_str()).copied()));
        }
    }
    let mut missing = vec![0_usize; nodes.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut ready = BinaryHeap::new();
    for (index, node) in nodes.iter().enumerate().filter(|&(index, _)| alive[index]) {
        for maker in node.input.iter().filter_map(|name| made_by.get(name.as_str()).copied()) {
            missing[index] += 1;
            readers[maker].push(index);
        }
        if missing[index] == 0 {
            ready.push(Reverse(index));
        }
    }
    let mut order = Vec::new();
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for &reader in &readers[index] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    let Some(mut stuck) = (0..nodes.len()).find(|&index| missing[index] > 0) else { return Ok(order) };
    // Every node that is left waits for one that is left: walking back ends on a cycle.
    let mut seen = vec![false; nodes.len()];
    while !std::mem::replace(&mut seen[stuck], true) {
        let mut makers = nodes[stuck].input.iter().filter_map(|name| made_by.get(name.as_str()).copied());
        stuck = makers.find(|&maker| missing[maker] > 0).unwrap_or(stuck);
    }
    let output = nodes[stuck].output.first().map_or("", String::as_str);
    Err(format!("the graph has a cycle through {:?}", clip(output)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    fn order(nodes: &[NodeProto], output: &str) -> Result<Vec<usize>, String> {
        let made_by = nodes.iter().enumerate().map(|(index, node)| (node.output[0].as_str(), index)).collect();
        live(nodes, &made_by, std::iter::once(output))
    }

    #[test]
    fn nodes_are_sorted_and_dead_ones_left_out() {
        let nodes = [node(&["b"], "c"), node(&["x"], "dead"), node(&["x"], "a"), node(&["a", "a"], "b")];
        assert_eq!(order(&nodes, "c"), Ok(vec![2, 3, 0]));
    }

    #[test]
    fn a_cycle_is_named() {
        let nodes = [node(&["x"], "a"), node(&["a", "c"], "b"), node(&["b"], "c"), node(&["c"], "d")];
        assert!(order(&nodes, "d").unwrap_err().contains("cycle through"));
        let nodes = [node(&["a"], "a")];
        assert!(order(&nodes, "a").is_err());
    }
}
