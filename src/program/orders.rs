//! Other orders in which a program may run: any order that keeps each engine's own and has every token signalled before
//! it is waited for.

use rand::{Rng, seq::IndexedRandom};

use super::{Instruction, Operation};

/// A random legal order, as positions in `instructions`.
///
/// # Panics
/// If the instructions cannot all run: a token that nothing signals.
pub fn random_legal(instructions: &[Instruction], engines: usize, random: &mut impl Rng) -> Vec<usize> {
    let mut queues: Vec<std::collections::VecDeque<usize>> = vec![std::collections::VecDeque::new(); engines];
    // A fence splits the program: what stands before it runs before it, what stands after, after.
    let mut order = Vec::with_capacity(instructions.len());
    let mut signalled = std::collections::BTreeSet::new();
    let mut start = 0;
    while start < instructions.len() {
        let end = (start..instructions.len())
            .find(|&at| at > start && matches!(instructions[at].operation, Operation::Fence))
            .unwrap_or(instructions.len());
        for (at, instruction) in instructions.iter().enumerate().take(end).skip(start) {
            queues[usize::from(instruction.engine.0)].push_back(at);
        }
        if matches!(instructions[start].operation, Operation::Fence) {
            queues[usize::from(instructions[start].engine.0)].pop_front();
            order.push(start);
        }
        loop {
            let ready: Vec<usize> = (0..engines)
                .filter(|&engine| {
                    queues[engine]
                        .front()
                        .is_some_and(|&at| instructions[at].waits.iter().all(|token| signalled.contains(token)))
                })
                .collect();
            let Some(&engine) = ready.choose(random) else { break };
            let at = queues[engine].pop_front().expect("ready engines have an instruction");
            signalled.extend(instructions[at].signals);
            order.push(at);
        }
        assert!(queues.iter().all(std::collections::VecDeque::is_empty), "every token is signalled");
        start = end;
    }
    order
}
