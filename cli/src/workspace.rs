//! The workspace: its root, its store, and the engine on it.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail};
use clnrm_backends::{Backend, BackendError, Choice, Chosen, Pull, choose};
use clnrm_engine::{Checking, Engine, Facts, OWN_FOLDER, Options, Os, System, Trust, Whose};
use clnrm_queries::{QUERIES, SETTINGS_FILES, facts};

use crate::args::{StoreArgs, TrustArg};

/// A folder with tests in it.
pub(crate) struct Workspace {
    /// Absolute.
    pub(crate) root: PathBuf,
    store: PathBuf,
    /// Variables of templates, by name.
    defined: Arc<BTreeMap<String, String>>,
    /// Whether the store is used.
    remembers: bool,
    checking: Checking,
    trust: Trust,
}

/// The variable that holds what those share who sign outcomes.
const SHARED_KEY: &str = "CLNRM_CACHE_KEY";

/// One in so many recalled nodes is computed again.
const SAMPLE: u32 = 50;

/// The backend, found when it is first needed.
#[derive(Clone)]
pub(crate) struct LazyBackend {
    root: PathBuf,
    choice: Arc<OnceLock<(Choice, Pull)>>,
    chosen: Arc<OnceLock<Result<Chosen, BackendError>>>,
}

impl Workspace {
    /// The one around `paths`: the nearest folder upward of the first of them that has settings
    /// or is a repository, else the current folder.
    pub(crate) fn find(paths: &[PathBuf], store: &StoreArgs) -> anyhow::Result<Workspace> {
        let current = std::env::current_dir().context("the current folder cannot be told")?;
        let first = paths.first().map_or(Path::new("."), PathBuf::as_path);
        let start = std::fs::canonicalize(first)
            .with_context(|| format!("cannot find {}", first.display()))?;
        let marks = || SETTINGS_FILES.into_iter().chain([".git"]);
        let marked = |folder: &&Path| marks().any(|mark| folder.join(mark).exists());
        let fallback =
            if start.starts_with(&current) { current.clone() } else { folder_of(&start) };
        let root = start.ancestors().find(marked).map_or(fallback, Path::to_owned);
        let remembers = !store.no_cache;
        let checking =
            if store.verify_cache { Checking::Everything } else { Checking::Sample(SAMPLE) };
        let trust = trust(store)?;
        let store = match &store.store {
            Some(store) => current.join(store),
            None => root.join(OWN_FOLDER).join("store-v1.redb"),
        };
        let defined = Arc::default();
        Ok(Workspace { root, store, defined, remembers, checking, trust })
    }

    /// The same, with variables of templates that go before all others: `name=value`.
    pub(crate) fn define(mut self, defines: &[String]) -> anyhow::Result<Workspace> {
        let mut defined = BTreeMap::new();
        for define in defines {
            let (name, value) = define
                .split_once('=')
                .with_context(|| format!("`-D {define}` has no value; write -D name=value"))?;
            let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if !named || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                bail!("`{name}` is no name of a variable; it has letters, digits and `_`");
            }
            defined.insert(name.to_owned(), value.to_owned());
        }
        self.defined = Arc::new(defined);
        Ok(self)
    }

    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// An engine that knows no backend: for everything that runs nothing.
    pub(crate) fn engine(&self) -> LastingEngine {
        self.engine_with(self.system(), self.remembered(), |_, _| None)
    }

    /// The same over other files; it remembers nothing.
    pub(crate) fn engine_over(&self, system: Arc<dyn System>) -> LastingEngine {
        self.engine_with(system, None, |_, _| None)
    }

    /// An engine whose plans are for `backend`.
    pub(crate) fn engine_for(&self, backend: &LazyBackend) -> LastingEngine {
        let backend = backend.clone();
        self.engine_with(self.system(), self.remembered(), move |kind, name| {
            backend.fact(kind, name)
        })
    }

    /// The store, if it is used.
    fn remembered(&self) -> Option<PathBuf> {
        self.remembers.then(|| self.store.clone())
    }

    /// Its path from the root of the repository it is in; empty where it is in none.
    pub(crate) fn place(&self) -> &str {
        place_in_repository(&self.root).unwrap_or_default()
    }

    fn system(&self) -> Arc<dyn System> {
        Arc::new(Os::new(&self.root))
    }

    fn engine_with(
        &self,
        system: Arc<dyn System>,
        store: Option<PathBuf>,
        backend: impl Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> LastingEngine {
        let (root, defined) = (self.root.clone(), self.defined.clone());
        let facts: Facts = Arc::new(move |kind, name| match kind {
            facts::REPOSITORY => Some(place_in_repository(&root)?.as_bytes().to_vec()),
            facts::HOME_TEMPLATE => std::fs::read(home_templates()?.join(name)).ok(),
            facts::NOW => Some(began().into_bytes()),
            facts::DEFINED => defined.get(name).map(|value| value.clone().into_bytes()),
            facts::DEFINED_NAMES => {
                let names: Vec<&str> = defined.keys().map(String::as_str).collect();
                Some(names.join("\n").into_bytes())
            }
            _ => backend(kind, name),
        });
        ManuallyDrop::new(Engine::new(Options {
            system,
            facts,
            tool: env!("CLNRM_TOOL").as_bytes(),
            queries: &QUERIES,
            store,
            checking: self.checking,
            trust: self.trust.clone(),
        }))
    }
}

/// An engine that lasts as long as the process, whose memory goes at once when it ends.
pub(crate) type LastingEngine = ManuallyDrop<Engine>;

impl LazyBackend {
    pub(crate) fn new(workspace: &Workspace) -> LazyBackend {
        LazyBackend { root: workspace.root.clone(), choice: Arc::default(), chosen: Arc::default() }
    }

    /// Says which one is wanted, before it is first needed.
    pub(crate) fn choose(&self, choice: Choice, pull: Pull) {
        let _ = self.choice.set((choice, pull));
    }

    /// The backend, or why there is none.
    pub(crate) fn get(&self) -> Result<&dyn Backend, &BackendError> {
        self.chosen().as_ref().map(|chosen| &*chosen.backend)
    }

    /// Why this one, when it was found.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.chosen.get()?.as_ref().ok().map(|chosen| chosen.reason.as_str())
    }

    fn chosen(&self) -> &Result<Chosen, BackendError> {
        self.chosen.get_or_init(|| {
            let (choice, pull) = self.choice.get().copied().unwrap_or_default();
            let program = Path::new("/proc/self/exe");
            choose(choice, pull, &self.root, program)
        })
    }

    fn fact(&self, kind: &str, name: &str) -> Option<Vec<u8>> {
        let backend = self.get().ok()?;
        let value = match kind {
            facts::BACKEND => serde_json::to_vec(&backend.kind()),
            facts::IMAGE => serde_json::to_vec(&backend.image(name)),
            _ => return None,
        };
        Some(value.expect("facts are plain data"))
    }
}

/// When this process first asked for the time, in RFC 3339.
fn began() -> String {
    static BEGAN: OnceLock<jiff::Timestamp> = OnceLock::new();
    format!("{:.0}", BEGAN.get_or_init(jiff::Timestamp::now))
}

/// Where the user's own templates are.
pub(crate) fn home_templates() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home).join(".clnrm").join("templates"))
}

fn trust(args: &StoreArgs) -> anyhow::Result<Trust> {
    let key = std::env::var_os(SHARED_KEY).filter(|key| !key.is_empty());
    let key = key.map(|key| key.into_encoded_bytes());
    let whose = match args.cache_trust {
        TrustArg::All => Whose::All,
        TrustArg::Signed if key.is_none() => {
            bail!("--cache-trust signed needs the key that signers share in {SHARED_KEY}");
        }
        TrustArg::Signed => Whose::Signed,
        TrustArg::None => Whose::Own,
    };
    Ok(Trust { whose, key })
}

/// The path of a workspace from the root of the repository it is in.
fn place_in_repository(root: &Path) -> Option<&str> {
    let repository = root.ancestors().find(|folder| folder.join(".git").exists())?;
    root.strip_prefix(repository).expect("it is an ancestor").to_str()
}

fn folder_of(path: &Path) -> PathBuf {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    folder.unwrap_or(path).to_owned()
}
