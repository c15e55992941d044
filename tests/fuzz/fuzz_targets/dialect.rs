//! Any text is rendered or refused, within bounds.

#![no_main]

use std::sync::Arc;

use clnrm_engine::{Checking, Engine, Memory, Options, Unit};
use clnrm_queries::{QUERIES, RENDERED};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let memory = Memory::default();
    memory.write("t.clnrm.toml.tera", text);
    memory.write("lib.tera", "{% macro m(a, b={}) %}{{ a }}{% for k, v in b %}{{ k }}{% endfor %}{% endmacro %}");
    let mut engine = Engine::new(Options {
        system: Arc::new(memory),
        facts: Arc::new(|_, _| None),
        tool: b"fuzz",
        queries: &QUERIES,
        store: None,
        checking: Checking::Nothing,
        trust: Default::default(),
    });
    let rendered = engine.demand(&RENDERED, &[Unit::file("t.clnrm.toml.tera")]);
    assert!(rendered[0].is_ok(), "{:?}", rendered[0]);
});
