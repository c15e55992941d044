//! The program as a user has it: given these files, this is what is seen, and this is what ran.
//!
//! Every test has a folder, a home and an environment of its own. Tests that need Podman, Python's
//! packages or the corpus say on standard error that they did not run where these are missing;
//! with `CI=true` a missing engine is a failure.

mod agree;
mod bad_input;
mod broken_machine;
mod case;
mod conformance;
mod corpus;
mod crashes;
mod docs;
mod doctor;
mod edits;
mod engines;
mod escape;
mod evidence;
mod fmt;
mod forward;
mod help;
mod images;
mod init;
mod interrupt;
mod kept;
mod lacking;
mod language;
mod limits;
mod networks;
mod nobody;
mod odd_files;
mod output;
mod programs;

mod readiness;
mod registry;
mod restore;
mod retries;
mod scripted;
mod sdks;
mod settle;
mod some_of_them;
mod spans;
mod spares;
mod stdout_spans;
mod terminal;
mod tidy;
mod watch;
