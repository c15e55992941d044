//! The agent as a static program of its own, for containers that an engine starts.
//!
//! `build.rs` compiles it with nothing but the standard library.

#[path = "agent.rs"]
mod agent;

fn main() {
    let folder = std::env::args_os().nth(1).unwrap_or_else(|| agent::FOLDER.into());
    let listen = std::env::args_os().nth(2).is_some_and(|word| word == "listen");
    agent::serve(folder.as_ref(), listen);
}
