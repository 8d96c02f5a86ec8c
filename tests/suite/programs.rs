//! The programs that are generated are free of races, by a checker that does not know how they were made.

use proptest::prelude::*;
use systole::{
    config::Accelerator,
    ir::{Graph, Quantized},
    mapping::{Plan, PlanOptions, order::may_overflow, plan},
    program::{Program, verify::verify},
};

use crate::{
    layers::{layer_of, random_layer, small_network},
    support::{cases, machines, operand_types, tight_output_stationary},
};

/// Maps a graph; `None` where a layer does not fit the machine.
pub fn mapped(graph: &Graph<Quantized>, accelerator: &Accelerator) -> Option<Program> {
    planned(graph, accelerator).map(|(_, program)| program)
}

/// As [`mapped`], with the plan, which has the closed form of each layer.
pub fn planned(graph: &Graph<Quantized>, accelerator: &Accelerator) -> Option<(Plan, Program)> {
    let inexact = graph
        .nodes_with_ids()
        .filter(|(_, node)| node.op.sums_products() && may_overflow(graph, node, accelerator))
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
    fn programs_of_layers_of_every_type_have_no_race_and_no_redundant_wait(
        seed in any::<u64>(), types in operand_types(), accelerator in machines(),
    ) {
        race_free(&layer_of(seed, types), &accelerator)?;
    }

    #[test]
    fn programs_with_little_room_have_no_race_and_no_redundant_wait(
        seed in any::<u64>(), accelerator in tight_output_stationary(),
    ) {
        race_free(&random_layer(seed), &accelerator)?;
    }

    #[test]
    fn programs_of_small_networks_have_no_race_and_no_redundant_wait(seed in any::<u64>(), accelerator in machines()) {
        race_free(&small_network(seed), &accelerator)?;
    }
}
