//! The graph as the store remembers it: nodes, leaves, and who read what.

use std::collections::HashMap;
use std::io::{self, Write};

use petgraph::graphmap::DiGraphMap;
use rayon::prelude::*;

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
        let mut keys = Vec::new();
        for (node, trace) in traces() {
            keys.push(Key::Node(node));
            keys.extend(trace.reads.iter().map(|(key, _)| key.clone()));
        }
        // Numbered in the order of the keys: equal stores have equal graphs.
        keys.par_sort_unstable();
        keys.dedup();
        let numbers: HashMap<&Key, u32> = keys.iter().zip(0..).collect();
        let mut edges = DiGraphMap::with_capacity(keys.len(), 4 * keys.len());
        for number in 0..keys.len() as u32 {
            edges.add_node(number);
        }
        for (node, trace) in traces() {
            let reader = numbers[&Key::Node(node)];
            for (key, _) in &trace.reads {
                edges.add_edge(reader, numbers[key], ());
            }
        }
        Graph { keys, edges }
    }

    /// How many nodes and leaves there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing was computed yet.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Writes one paragraph a node of those units: its name, and below it what it read.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn text(&self, of: impl Fn(&Unit) -> bool, out: &mut dyn Write) -> io::Result<()> {
        for (number, key) in (0..).zip(&self.keys) {
            if let Key::Node(node) = key
                && of(&node.unit)
            {
                writeln!(out, "{node}")?;
                for read in self.edges.neighbors(number) {
                    writeln!(out, "  {}", self.keys[read as usize])?;
                }
            }
        }
        Ok(())
    }

    /// Writes it in Graphviz' language.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn dot(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "digraph clnrm {{\n  rankdir = LR;\n  node [shape = box];")?;
        for (number, key) in self.keys.iter().enumerate() {
            let shape = match key {
                Key::Leaf(_) => ", style = rounded",
                Key::Node(_) => "",
            };
            let label = key.to_string().replace('\\', "\\\\").replace('"', "\\\"");
            writeln!(out, "  n{number} [label = \"{label}\"{shape}];")?;
        }
        for (reader, read, ()) in self.edges.all_edges() {
            writeln!(out, "  n{reader} -> n{read};")?;
        }
        writeln!(out, "}}")
    }

    /// Writes it as one JSON object: `nodes` with `id`, `kind` (`query` or `leaf`) and `name`,
    /// and `edges` from a `reader` to what it has `read`.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{{\"nodes\":[")?;
        for (number, key) in self.keys.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let kind = match key {
                Key::Leaf(_) => "leaf",
                Key::Node(_) => "query",
            };
            let name = serde_json::to_string(&key.to_string())?;
            write!(out, "{comma}\n{{\"id\":{number},\"kind\":\"{kind}\",\"name\":{name}}}")?;
        }
        write!(out, "\n],\"edges\":[")?;
        for (number, (reader, read, ())) in self.edges.all_edges().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(out, "{comma}\n{{\"reader\":{reader},\"read\":{read}}}")?;
        }
        writeln!(out, "\n]}}")
    }
}
