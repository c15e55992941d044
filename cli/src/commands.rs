//! One file a verb.

pub(crate) mod block;
pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod clean;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod dry_run;
pub(crate) mod fmt;
pub(crate) mod init;
pub(crate) mod lint;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod plugins;
pub(crate) mod render;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod services;
pub(crate) mod shell;
pub(crate) mod template;
pub(crate) mod watch;

use clnrm_engine::Engine;

use crate::exit::Exit;
use crate::printer;

/// Writes down what was learned, once everything is told; the end of every command that asks
/// queries. A query that is not pure makes all that is remembered worthless.
fn finish(engine: &mut Engine, command: &str) -> Exit {
    engine.commit_run(command);
    let impure = engine.take_impure();
    let exit = if impure.is_empty() {
        Exit::Green
    } else {
        printer::impure(&impure);
        let _ = engine.clear_store();
        Exit::Bug
    };
    printer::store_trouble(engine);
    exit
}
