//! The command line: argv in, a report and an exit code out.

mod args;
mod commands;
mod completion;
mod exit;
mod inbox;
mod interrupt;
mod keys;
mod known;
mod overlay;
mod printer;
mod replace;
mod schema;
mod select;
mod settle;
mod shard;
mod watcher;
mod why;
mod workspace;

use clap::Parser;
use mimalloc::MiMalloc;

use crate::args::{Args, Command};
use crate::exit::Exit;

/// Syntax trees are made of small pieces, on all cores at once.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    // A container of the sandbox is this program, too.
    clnrm_backends::sandbox_main();
    clnrm_engine::hush_caught_panics();
    completion::answer();
    let args = Args::parse();
    args.color.write_global();
    printer::talk_as(args.quiet, args.verbose);
    // This thread works along with the others, and so there is one less to be started.
    // A template may nest deep.
    let pool = rayon::ThreadPoolBuilder::new().stack_size(16 << 20).use_current_thread();
    let _ = pool.build_global();
    let result = match args.command {
        Command::Init(args) => commands::init::run(&args),
        Command::Run(args) => commands::run::run(&args),
        Command::Watch(args) => commands::watch::run(&args),
        Command::DryRun(args) => commands::dry_run::run(&args),
        Command::Fmt(args) => commands::fmt::run(&args),
        Command::Lint(args) => commands::lint::run(&args),
        Command::Gen(args) => commands::block::run(&args),
        Command::Template(args) => commands::template::run(&args),
        Command::Schema(_) => commands::schema::run(),
        Command::Render(args) => commands::render::run(&args),
        Command::Build(args) => commands::build::run(&args),
        Command::Cache(args) => commands::cache::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Logs(args) => commands::logs::run(&args),
        Command::Shell(args) => commands::shell::run(&args),
        Command::Clean(args) => commands::clean::run(&args),
        Command::Services(args) => commands::services::run(&args),
        Command::Plugins(_) => Ok(commands::plugins::run()),
        Command::Completions(args) => Ok(commands::completions::run(&args)),
        Command::Man(args) => commands::man::run(&args),
    };
    let exit = result.unwrap_or_else(|error| {
        printer::complain(&error);
        error.downcast_ref::<Exit>().copied().unwrap_or(Exit::Usage)
    });
    std::process::ExitCode::from(exit.code())
}
