//! Pairs that demand an order do not demand it both ways round.

use std::collections::BTreeMap;

use crate::diagnostic::{At, Problem};
use crate::expectation::Expectation;
use crate::model::Test;

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    for placed in &test.expectations {
        let Expectation::Order(order) = &placed.expectation else { continue };
        let mut after = BTreeMap::<&str, Vec<&str>>::new();
        for (first, second) in &order.must_precede {
            after.entry(first).or_default().push(second);
        }
        let cycle = after.keys().find_map(|start| way_back(start, &after));
        if let Some(cycle) = cycle {
            let message = format!("no order satisfies {}", cycle.join(" → "));
            let at = At::Key(placed.path.clone());
            let problem = Problem::error("shape/order-cycle", at, message);
            problems.push(problem.hint("take one of these pairs out"));
        }
    }
}

/// A way from `start` back to it.
fn way_back<'a>(start: &'a str, after: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let (mut open, mut seen) = (vec![vec![start]], Vec::new());
    while let Some(way) = open.pop() {
        for next in after.get(way.last()?).into_iter().flatten() {
            let longer: Vec<&str> = way.iter().chain([next]).copied().collect();
            if *next == start {
                return Some(longer);
            }
            if !seen.contains(next) {
                seen.push(*next);
                open.push(longer);
            }
        }
    }
    None
}
