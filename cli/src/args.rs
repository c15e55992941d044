//! What was typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates;
use clnrm_backends::{Choice, Pull};

use crate::completion;

const EXIT_CODES: &str = "\
Exit codes: 0 green; 1 a test failed; 2 usage; 3 errors in files; 4 nothing selected; \
5 a backend failed; 101 a bug of clnrm; 130 interrupted.";

/// Hermetic integration tests that prove themselves by their traces.
///
/// A test file says which services run, what is done, and what the OpenTelemetry spans of it must
/// look like. Nothing that is known to be still true is done twice.
#[derive(Debug, Parser)]
#[command(name = "clnrm", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) color: colorchoice_clap::Color,
    /// Tell only of what is not as it should be.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Tell of every scenario, and why it ran.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(InitArgs),
    Run(RunArgs),
    #[command(visible_alias = "dev")]
    Watch(WatchArgs),
    #[command(visible_alias = "validate")]
    DryRun(DryRunArgs),
    Lint(LintArgs),
    Fmt(FmtArgs),
    Render(RenderArgs),
    Gen(GenArgs),
    Template(TemplateArgs),
    Schema(SchemaArgs),
    Build(BuildArgs),
    Cache(CacheArgs),
    #[command(visible_alias = "health")]
    Doctor(DoctorArgs),
    Logs(LogsArgs),
    Shell(ShellArgs),
    Clean(CleanArgs),
    Services(ServicesArgs),
    Plugins(PluginsArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Make a small project that is green at once.
///
/// It needs no image and no engine. Files that are there already are left alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm init demo && clnrm run demo\n  clnrm init --templates")]
pub(crate) struct InitArgs {
    /// The folder to make it in.
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Instead, write the templates that come with clnrm to ~/.clnrm/templates, to be edited.
    #[arg(long, conflicts_with = "folder")]
    pub(crate) templates: bool,
}

/// Run tests, as far as their verdicts are not known.
///
/// Every scenario gets fresh containers. A verdict is known when nothing it rests on has changed:
/// the file and what it reads, the programs it mounts, the image, the environment it looks at.
/// Failed tests always run again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm run\n  clnrm run tests/api --backend podman\n  \
                        clnrm run --tag smoke --fail-fast\n  clnrm run --force --format json\n  \
                        clnrm run --frozen")]
pub(crate) struct RunArgs {
    /// Test files, or folders to look for them in.
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) runner: RunnerArgs,
    /// Run every scenario, even if its outcome is known.
    #[arg(long, conflicts_with_all = ["frozen", "reuse_failures"])]
    pub(crate) force: bool,
    /// Run nothing: fail when anything would have to run. For CI jobs that restore a store.
    #[arg(long)]
    pub(crate) frozen: bool,
    /// Start nothing more once a test has failed.
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// Keep the environment of the first failed scenario up until Ctrl-C; `clnrm shell` enters it.
    #[arg(long, conflicts_with_all = ["frozen", "dry_run"])]
    pub(crate) keep: bool,
    /// Run one of several parts of the tests, for one of several machines: `2/3` is the second of three.
    #[arg(long, value_name = "I/N", value_parser = Shard::parse)]
    pub(crate) shard: Option<Shard>,
    /// How the tests are split.
    #[arg(long, value_enum, default_value_t, requires = "shard")]
    pub(crate) shard_by: ShardBy,
    /// Show failures that are known instead of running their scenarios again.
    #[arg(long)]
    pub(crate) reuse_failures: bool,
    /// Go on, and run what a change of a file concerns: `clnrm watch`.
    #[arg(long, conflicts_with_all = ["frozen", "keep", "shard", "force", "fail_fast", "dry_run"])]
    pub(crate) watch: bool,
    /// Take what clnrm does not know for an error, and run nothing when there is any.
    #[arg(long, conflicts_with = "watch")]
    pub(crate) strict: bool,
    /// Check the tests, and run nothing: `clnrm dry-run`.
    #[arg(long, conflicts_with_all = ["force", "frozen", "reuse_failures", "backend", "jobs"])]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

impl RunArgs {
    /// The same for a command that goes on.
    pub(crate) fn watching(&self) -> WatchArgs {
        WatchArgs {
            paths: self.paths.clone(),
            runner: self.runner.clone(),
            debounce: 0,
            poll: false,
            watch: true,
            format: match self.common.format {
                Format::Human => WatchFormat::Human,
                Format::Json => WatchFormat::Jsonl,
            },
            variables: self.common.variables.clone(),
            store: self.common.store.clone(),
        }
    }
}

/// Run tests whenever a file changes that concerns them.
///
/// It watches what the tests read: test files, templates, mounted files, and folders in which new
/// ones may come. A save runs the scenarios it changes and judges the rest by what is known; what is
/// under way and not concerned goes on. It ends with Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm watch\n  clnrm watch tests/api --backend podman\n  \
                        clnrm watch --format jsonl")]
pub(crate) struct WatchArgs {
    /// Test files, or folders to look for them in.
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) runner: RunnerArgs,
    /// Wait so many milliseconds for more changes, at most 200.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=200))]
    pub(crate) debounce: u16,
    /// Look at the files every now and then, where nobody tells of changes, as on network mounts.
    #[arg(long)]
    pub(crate) poll: bool,
    /// What it does anyway.
    #[arg(long, hide = true)]
    pub(crate) watch: bool,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: WatchFormat,
    #[command(flatten)]
    pub(crate) variables: VariableArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Which tests run, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RunnerArgs {
    /// Run only tests with this tag, or one of several.
    #[arg(long = "tag", value_name = "TAG", add = ArgValueCandidates::new(completion::tags))]
    pub(crate) tags: Vec<String>,
    /// Where containers run; `auto` takes Podman or Docker where one answers, else the sandbox.
    #[arg(long, value_enum)]
    pub(crate) backend: Option<BackendArg>,
    /// When images are asked for at their registries: `missing`, `always`, `never`, or when they
    /// were not for so long, like `24h`.
    #[arg(long, default_value = "missing", value_parser = pull, value_name = "WHEN")]
    pub(crate) pull: Pull,
    /// How many scenarios run at once [default: the number of cores].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum WatchFormat {
    /// For people.
    #[default]
    Human,
    /// A JSON object a line: one at first, and one whenever there is something new.
    Jsonl,
}

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 1.
    pub(crate) number: usize,
    pub(crate) of: usize,
}

impl Shard {
    fn parse(text: &str) -> Result<Shard, String> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((number, of)) if 1 <= number && number <= of => Ok(Shard { number, of }),
            _ => Err("write I/N with I from 1 to N, like 2/3".to_owned()),
        }
    }
}

fn pull(text: &str) -> Result<Pull, String> {
    let age = || text.parse::<jiff::SignedDuration>().ok()?.try_into().ok();
    match text {
        "missing" => Ok(Pull::Missing),
        "always" => Ok(Pull::Always),
        "never" => Ok(Pull::Never),
        _ => age().map(Pull::After).ok_or("missing, always, never or a time like 24h".to_owned()),
    }
}

/// How the tests are split into shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShardBy {
    /// Into parts of as many tests.
    #[default]
    Count,
    /// Into parts that took as long when they were last run here.
    Duration,
}

/// Check tests without running anything.
///
/// Renders, parses and checks every file; needs no engine. Each file gets a line, what is wrong
/// with it is told below.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  clnrm dry-run\n  clnrm dry-run tests/api -D env=ci --strict\n  \
                        clnrm dry-run --format sarif > clnrm.sarif"
)]
pub(crate) struct DryRunArgs {
    /// Test files, or folders to look for them in.
    pub(crate) paths: Vec<PathBuf>,
    /// Take what clnrm does not know for an error.
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
}

/// Check tests, and their style and risks.
///
/// Besides what `dry-run` tells, it looks for secrets, expectations that nothing can meet,
/// variables nobody reads, images that may change, and tests that prove nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm lint\n  clnrm lint --deny warnings\n  clnrm lint --fix")]
pub(crate) struct LintArgs {
    /// Test files, or folders to look for them in.
    pub(crate) paths: Vec<PathBuf>,
    /// What is taken for an error.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) deny: Option<DenyArg>,
    /// Mend what can be mended, then tell of the rest.
    #[arg(long)]
    pub(crate) fix: bool,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
}

/// Write test files as they should be written, templates too.
///
/// Keys are sorted within their groups, long arrays have an item a line; comments stay with what they
/// comment, strings are never touched. In a template only lines of plain TOML change. A file is
/// written only when it is proved to be the same test afterwards.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm fmt\n  clnrm fmt --check tests/api\n  \
                        clnrm fmt --stdin tests/api.clnrm.toml < tests/api.clnrm.toml")]
pub(crate) struct FmtArgs {
    /// Test files, or folders to look for them in.
    pub(crate) paths: Vec<PathBuf>,
    /// Write nothing: list the files that would change, and exit with 1 if there are any.
    #[arg(long)]
    pub(crate) check: bool,
    /// Write nothing: print what would change.
    #[arg(long)]
    pub(crate) diff: bool,
    /// Format the standard input to the standard output, as the file that PATHS names.
    #[arg(long, conflicts_with = "diff")]
    pub(crate) stdin: bool,
    #[command(flatten)]
    pub(crate) variables: VariableArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DenyArg {
    /// Everything that is told.
    Warnings,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: CheckFormat,
    #[command(flatten)]
    pub(crate) variables: VariableArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0, which code hosts and editors read.
    Sarif,
    /// Annotations of GitHub Actions.
    Github,
}

/// Print a commented block of a test file.
///
/// The block is valid where it stands, and says what each key means.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm gen\n  clnrm gen expect-span >> tests/api.clnrm.toml")]
pub(crate) struct GenArgs {
    /// Which; without it the names of all are printed.
    pub(crate) block: Option<String>,
}

/// Print a whole test file to start from.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm template\n  clnrm template otel > tests/api.clnrm.toml")]
pub(crate) struct TemplateArgs {
    /// Which; without it the names of all are printed.
    pub(crate) kind: Option<String>,
}

/// Print the JSON Schema of test files.
///
/// Editors with a language server for TOML complete and check by it when a file's first line is
/// `#:schema ./clnrm.schema.json`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  clnrm schema > clnrm.schema.json")]
pub(crate) struct SchemaArgs {}

/// Print what a template renders to.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm render tests/api.clnrm.toml.tera\n  \
                        clnrm render tests/api.clnrm.toml.tera --map -D svc=api")]
pub(crate) struct RenderArgs {
    /// A test file.
    pub(crate) file: PathBuf,
    /// Instead, tell of every variable it reads what it is, where that comes from, and which lines
    /// of the rendered text would be others if it were.
    #[arg(long)]
    pub(crate) map: bool,
    /// The cell of a matrix file: `[axis=value]`, as `dry-run` names it [default: the first].
    #[arg(long, value_name = "CELL")]
    pub(crate) cell: Option<String>,
    #[command(flatten)]
    pub(crate) variables: VariableArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Bring everything up to date that needs no container, and show the graph.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm build --graph\n  \
                        clnrm build --graph=dot | dot -Tsvg > graph.svg")]
pub(crate) struct BuildArgs {
    /// Test files, or folders to look for them in.
    pub(crate) paths: Vec<PathBuf>,
    /// Print the dependency graph.
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, require_equals = true,
          default_missing_value = "text")]
    pub(crate) graph: Option<GraphFormat>,
    #[command(flatten)]
    pub(crate) variables: VariableArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Look at what this machine has to run tests with, and run a container in each backend.
///
/// Tells which backend would be used and why, and for everything that does not work what mends it.
/// Exits with 5 when no container can be run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm doctor\n  clnrm doctor --format json")]
pub(crate) struct DoctorArgs {
    /// The backend that is to be used.
    #[arg(long, value_enum)]
    pub(crate) backend: Option<BackendArg>,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Print what the steps and services of scenarios wrote when they last ran.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm logs\n  clnrm logs \"an order is found\" tests/api")]
pub(crate) struct LogsArgs {
    /// The scenario, by a part of its name; all without one.
    #[arg(add = ArgValueCandidates::new(completion::scenarios))]
    pub(crate) scenario: Option<String>,
    /// Test files, or folders to look for them in.
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Enter a container of an environment that `clnrm run --keep` keeps up.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  clnrm shell\n  clnrm shell --service db \"an order is kept\" -- env"
)]
pub(crate) struct ShellArgs {
    /// The scenario, by a part of its name; not needed when one is up.
    #[arg(add = ArgValueCandidates::new(completion::kept))]
    pub(crate) scenario: Option<String>,
    /// The service whose container is entered [default: the first].
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// What is run in it [default: sh].
    #[arg(last = true)]
    pub(crate) program: Vec<String>,
}

/// Look at the services that are up now, or at what they wrote.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm services status\n  clnrm services logs db")]
pub(crate) struct ServicesArgs {
    #[command(subcommand)]
    pub(crate) command: ServicesCommand,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServicesCommand {
    /// Print which are up: of runs under way, and of environments that are kept.
    Status,
    /// Print what a service wrote when its scenarios last ran.
    Logs {
        /// The service.
        service: String,
        /// Test files, or folders to look for them in.
        paths: Vec<PathBuf>,
    },
    /// Say why services are not restarted.
    #[command(hide = true)]
    Restart {
        /// The service.
        service: String,
    },
}

/// Print what a shell completes the words of clnrm by.
///
/// Tags and the names of scenarios are completed by what the tests say.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  echo 'source <(clnrm completions bash)' >> ~/.bashrc")]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Print the manual page, or write those of all commands into a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm man | man -l -\n  clnrm man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The folder.
    pub(crate) folder: Option<PathBuf>,
}

/// Print what `plugin` may be in a service, and what that means.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  clnrm plugins")]
pub(crate) struct PluginsArgs {}

/// Remove what killed runs have left: containers, their folders, and control groups.
///
/// What belongs to a run that goes on, and what others made, is left alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm clean\n  clnrm clean --images")]
pub(crate) struct CleanArgs {
    /// Remove the unpacked images, too.
    #[arg(long)]
    pub(crate) images: bool,
}

/// Look after what is remembered.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clnrm cache stats\n  clnrm cache export ci.redb\n  \
                        clnrm cache import ci.redb && clnrm run --frozen")]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Print where the store is and how much it holds.
    Stats,
    /// Look at every page and row; exits with 1 when something is damaged, and sets the store aside.
    Verify,
    /// Remove what belongs to files that are gone, and outcomes least recently used until it fits.
    Gc {
        /// How many MiB the outcomes may take.
        #[arg(long, value_name = "MIB", default_value_t = 128)]
        max_size: u64,
    },
    /// Remove the store; the next run starts cold.
    Clear,
    /// Write all that is true on other machines, too, into a new file.
    Export {
        /// The file; there must be none yet.
        file: PathBuf,
    },
    /// Take in what an exported or copied store knows and this one does not.
    Import {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct VariableArgs {
    /// Set a variable of templates; it goes before the file's own. Numbers, truth values, lists and
    /// tables are read as TOML.
    #[arg(short = 'D', long = "define", value_name = "NAME=VALUE")]
    pub(crate) define: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CommonArgs {
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) variables: VariableArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

impl CommonArgs {
    /// The same for a command that only checks.
    pub(crate) fn check(&self) -> CheckArgs {
        let format = match self.format {
            Format::Human => CheckFormat::Human,
            Format::Json => CheckFormat::Json,
        };
        CheckArgs { format, variables: self.variables.clone(), store: self.store.clone() }
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// The file in which results are remembered [default: .clnrm/store-v1.redb].
    #[arg(long, env = "CLNRM_STORE", value_name = "FILE", global = true)]
    pub(crate) store: Option<PathBuf>,
    /// Neither use nor keep any results.
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,
    /// Compute everything that is remembered again, and compare; a difference is a bug of clnrm.
    #[arg(long, global = true, conflicts_with = "no_cache")]
    pub(crate) verify_cache: bool,
    /// Whose outcomes are reused when the store comes from elsewhere.
    #[arg(
        long,
        env = "CLNRM_CACHE_TRUST",
        value_enum,
        default_value_t,
        value_name = "WHOSE",
        global = true
    )]
    pub(crate) cache_trust: TrustArg,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrustArg {
    /// Everybody's.
    #[default]
    All,
    /// Those computed here, and those signed with the key in CLNRM_CACHE_KEY.
    Signed,
    /// Those computed here.
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// A paragraph a node.
    Text,
    /// Graphviz.
    Dot,
    /// One JSON object with nodes and edges.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendArg {
    /// Podman or Docker where one answers, else the sandbox.
    Auto,
    /// Podman over its socket; where none listens, it is started for the run.
    Podman,
    /// Docker over its socket.
    Docker,
    /// Linux namespaces, built in.
    Sandbox,
}

impl BackendArg {
    pub(crate) fn choice(self) -> Choice {
        match self {
            BackendArg::Auto => Choice::Auto,
            BackendArg::Podman => Choice::Podman,
            BackendArg::Docker => Choice::Docker,
            BackendArg::Sandbox => Choice::Sandbox,
        }
    }
}
