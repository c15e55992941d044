//! What shells complete words by: they ask the program itself, which looks at the tests.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};
use clnrm_backends::Kept;
use clnrm_queries::{CHECK, Check};

use crate::args::{Args, StoreArgs, TrustArg};
use crate::known::{Detail, checks};
use crate::select::select;
use crate::workspace::Workspace;

/// The variable that is set when a shell asks.
const ASKED: &str = "CLNRM_COMPLETE";

/// Answers a shell if one asks; does not return then.
pub(crate) fn answer() {
    CompleteEnv::with_factory(Args::command).var(ASKED).complete();
}

/// Writes what has a shell ask.
pub(crate) fn write_script(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    let shells = Shells::builtins();
    let shell = shells.completer(&shell.to_string()).ok_or(io::ErrorKind::NotFound)?;
    shell.write_registration(ASKED, "clnrm", "clnrm", "clnrm", out)
}

/// The tags of all tests.
pub(crate) fn tags() -> Vec<CompletionCandidate> {
    of_tests(|check| check.tags)
}

/// The names of all scenarios.
pub(crate) fn scenarios() -> Vec<CompletionCandidate> {
    of_tests(|check| check.scenarios)
}

/// The scenarios whose environments are kept up.
pub(crate) fn kept() -> Vec<CompletionCandidate> {
    Kept::all().into_iter().map(|kept| kept.scenario.into()).collect()
}

/// What the tests of the current folder have; nothing where they cannot be looked at, of which
/// nobody would see why.
fn of_tests(has: impl Fn(Check<&str>) -> Vec<&str>) -> Vec<CompletionCandidate> {
    let look = || {
        let store = std::env::var_os("CLNRM_STORE").map(PathBuf::from);
        let store =
            StoreArgs { store, no_cache: false, verify_cache: false, cache_trust: TrustArg::All };
        let workspace = Workspace::find(&[], &store)?;
        let mut engine = workspace.engine();
        let selection = select(&workspace, &mut engine, &[])?;
        let (_, checks) = checks(&mut engine, &CHECK, selection.units, Detail::Whole);
        let views = checks.iter().flatten().filter_map(|check| check.view().ok());
        let names =
            views.flat_map(|check| has(check).into_iter().map(str::to_owned).collect::<Vec<_>>());
        anyhow::Ok(names.collect::<BTreeSet<String>>())
    };
    look().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}
