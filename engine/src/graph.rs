//! The graph as the store remembers it: nodes, leaves, and who read what.

use std::collections::BTreeMap;
use std::fmt::Write;

use petgraph::graphmap::DiGraphMap;

use crate::key::{Key, Node, Unit};
use crate::store::UnitTraces;

/// What was computed from what.
pub struct Graph {
    keys: Vec<Key>,
    /// An edge leads from a node to what it read.
    edges: DiGraphMap<u32, ()>,
}

impl Graph {
    pub(crate) fn new(units: &[(Unit, UnitTraces)]) -> Graph {
        let traces = || {
            units.iter().flat_map(|(unit, traces)| {
                let node = |query| Node { unit: unit.clone(), query };
                traces.iter().map(move |(query, trace)| (node(query), trace))
            })
        };
        let mut numbers = BTreeMap::new();
        for (node, trace) in traces() {
            numbers.insert(Key::Node(node), 0);
            for (key, _) in &trace.reads {
                numbers.insert(key.clone(), 0);
            }
        }
        // Numbered in the order of the keys: equal stores have equal graphs.
        for (number, (_, place)) in numbers.iter_mut().enumerate() {
            *place = number as u32;
        }
        let mut edges = DiGraphMap::new();
        for number in numbers.values() {
            edges.add_node(*number);
        }
        for (node, trace) in traces() {
            let reader = numbers[&Key::Node(node)];
            for (key, _) in &trace.reads {
                edges.add_edge(reader, numbers[key], ());
            }
        }
        Graph { keys: numbers.into_keys().collect(), edges }
    }

    /// How many nodes and leaves there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing was computed yet.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// One paragraph a node: its name, and below it what it read.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (number, key) in (0..).zip(&self.keys) {
            if let Key::Node(node) = key {
                let _ = writeln!(text, "{node}");
                for read in self.reads(number) {
                    let _ = writeln!(text, "  {read}");
                }
            }
        }
        text
    }

    /// In Graphviz' language.
    pub fn dot(&self) -> String {
        let mut dot = String::from("digraph clnrm {\n  rankdir = LR;\n  node [shape = box];\n");
        for (number, key) in self.keys.iter().enumerate() {
            let shape = match key {
                Key::Leaf(_) => ", style = rounded",
                Key::Node(_) => "",
            };
            let label = key.to_string().replace('\\', "\\\\").replace('"', "\\\"");
            let _ = writeln!(dot, "  n{number} [label = \"{label}\"{shape}];");
        }
        for (reader, read, ()) in self.edges.all_edges() {
            let _ = writeln!(dot, "  n{reader} -> n{read};");
        }
        dot + "}\n"
    }

    fn reads(&self, reader: u32) -> impl Iterator<Item = &Key> {
        self.edges.neighbors(reader).map(|number| &self.keys[number as usize])
    }
}
