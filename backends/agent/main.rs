//! The agent as a static program of its own, for containers that an engine starts.
//!
//! `build.rs` compiles it with nothing but the standard library.

#[path = "agent.rs"]
mod agent;

fn main() {
    let [first, second] = [1, 2].map(|at| std::env::args_os().nth(at).unwrap_or_default());
    if first == agent::CUT_OFF {
        std::process::exit(if agent::cut_off() { 0 } else { 1 });
    }
    agent::serve(first.as_ref(), second == "listen");
}
