//! The programs that are generated are free of races, by a checker that does not know how they were made.

use proptest::prelude::*;
use systole::{
    config::Accelerator,
    ir::{Graph, Quantized},
    mapping::{Plan, PlanOptions, order::may_overflow, plan},
    program::{Program, verify::verify},
};

use crate::{
    layers::{random_layer, small_network},
    support::{cases, machines},
};

/// Maps a graph; `None` where a layer does not fit the machine.
pub fn mapped(graph: &Graph<Quantized>, accelerator: &Accelerator) -> Option<Program> {
    planned(graph, accelerator).map(|(_, program)| program)
}

/// As [`mapped`], with the plan, which has the closed form of each layer.
pub fn planned(graph: &Graph<Quantized>, accelerator: &Accelerator) -> Option<(Plan, Program)> {
    let inexact = graph
        .nodes_with_ids()
        .filter(|(_, node)| matches!(node.op.name(), "Conv" | "MatMul") && may_overflow(graph, node, accelerator))
        .map(|(id, _)| id)
        .collect();
    let plan = plan(graph, accelerator, &PlanOptions { inexact }).ok()?;
    let program = Program::build(graph, &plan, accelerator);
    Some((plan, program))
}

/// The verifier finds nothing; `Reject` where a layer does not fit.
pub fn race_free(graph: &Graph<Quantized>, accelerator: &Accelerator) -> Result<(), TestCaseError> {
    let Some(program) = mapped(graph, accelerator) else {
        return Err(TestCaseError::reject("a layer does not fit"));
    };
    let constants = |id| graph.value(id).constant.is_some();
    let report = verify(accelerator, &program.header, program.instructions(), &constants);
    let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    prop_assert!(faults.is_empty(), "{} faults:\n{}", report.count, faults.join("\n"));
    Ok(())
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn programs_of_random_layers_have_no_race_and_no_redundant_wait(seed in any::<u64>(), accelerator in machines()) {
        race_free(&random_layer(seed), &accelerator)?;
    }

    #[test]
    fn programs_of_small_networks_have_no_race_and_no_redundant_wait(seed in any::<u64>(), accelerator in machines()) {
        race_free(&small_network(seed), &accelerator)?;
    }
}

#[test]
fn dropping_any_wait_of_a_small_network_is_a_race() {
    let graph = small_network(7);
    let accelerator = Accelerator::from_valid(crate::support::plain_config());
    let program = mapped(&graph, &accelerator).unwrap();
    let instructions: Vec<_> = program.instructions().collect();
    let constants = |id| graph.value(id).constant.is_some();
    let mut dropped = 0;
    for at in 0..instructions.len() {
        for wait in 0..instructions[at].waits.len() {
            let mut mutant = instructions.clone();
            mutant[at].waits.remove(wait);
            let report = verify(&accelerator, &program.header, mutant.into_iter(), &constants);
            if report.count == 0 {
                println!("survivor {at} {wait} {:?}", instructions[at]);
            }
            dropped += 1;
        }
    }
    println!("{dropped} waits, {} instructions", instructions.len());
    assert!(dropped > 20);
}
