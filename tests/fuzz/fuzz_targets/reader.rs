//! Any text is read as a test, checked, and found wanting or not.

#![no_main]

use std::sync::Arc;

use clnrm_engine::{Checking, Engine, Memory, Options, Unit};
use clnrm_queries::{LINT, QUERIES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let memory = Memory::default();
    memory.write("t.clnrm.toml", text);
    let mut engine = Engine::new(Options {
        system: Arc::new(memory),
        facts: Arc::new(|_, _| None),
        tool: b"fuzz",
        queries: &QUERIES,
        store: None,
        checking: Checking::Nothing,
        trust: Default::default(),
    });
    let checked = engine.demand(&LINT, &[Unit::file("t.clnrm.toml")]);
    assert!(checked[0].is_ok(), "{:?}", checked[0]);
});
