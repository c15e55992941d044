//! The agent as a static program of its own, for containers that an engine starts.
//!
//! `build.rs` compiles it with nothing but the standard library.

#[path = "agent.rs"]
mod agent;

fn main() {
    let mut words = std::env::args_os().skip(1);
    let first = words.next().unwrap_or_default();
    if first == agent::CUT_OFF {
        std::process::exit(if agent::cut_off() { 0 } else { 1 });
    }
    let words: Vec<_> = words.collect();
    let has = |word: &str| words.iter().any(|one| one == word);
    if has(agent::FILTERED)
        && let Err(error) = agent::restrict(first.as_ref())
    {
        eprintln!("clnrm agent: cannot filter system calls: {error}");
        std::process::exit(125);
    }
    agent::serve(first.as_ref(), has(agent::LISTEN));
}
