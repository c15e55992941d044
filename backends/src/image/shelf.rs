//! The unpacked images of a user, each in a folder by the name of its id.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use super::manifest::{self, Found};
use super::place::Place;
use super::save::save;
use super::unpack::unpack;
use super::{Config, User, pull_layout};

/// Where images are unpacked, and where those come from that are not yet.
pub(crate) struct Shelf {
    folder: PathBuf,
    images: Mutex<HashMap<String, Arc<OnceLock<Answer>>>>,
    sources: Mutex<HashMap<String, Arc<Source>>>,
}

type Answer = Result<Arc<Unpacked>, String>;

/// Where an image comes from.
pub(crate) enum Source {
    /// A layout or archive.
    File(PathBuf),
    /// A folder that is its root.
    Root(PathBuf),
    /// Whoever writes it as an archive to a file.
    Writer(Writer),
}

/// Writes an image to a file.
pub(crate) type Writer = Box<dyn Fn(&Path) -> Result<(), String> + Send + Sync>;

/// An image that can be run.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) root: PathBuf,
    pub(crate) config: Config,
    pub(crate) user: User,
}

impl Shelf {
    /// The one in the user's folder for caches.
    pub(crate) fn of_user() -> Shelf {
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let cache = from("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(from("HOME")?).join(".cache")));
        Shelf::at(cache.unwrap_or_else(std::env::temp_dir).join("clnrm").join("images"))
    }

    /// One in a folder, which is made when it is needed.
    pub(crate) fn at(folder: PathBuf) -> Shelf {
        Shelf { folder, images: Mutex::default(), sources: Mutex::default() }
    }

    /// Where images are unpacked.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The id of the image in a file or folder; `None` when nothing is there.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<String>, String> {
        if !path.exists() {
            return Ok(None);
        }
        let (id, source) = match manifest::find(&Place::open(path)?)? {
            Some(found) => (found.id, Source::File(path.to_owned())),
            None if path.is_dir() => {
                let digest = tree_digest(path).map_err(|error| error.to_string())?;
                (format!("root:{digest}"), Source::Root(path.to_owned()))
            }
            None => {
                let kinds = "neither an OCI layout nor what `docker save` writes";
                return Err(format!("it holds no image: it is {kinds}"));
            }
        };
        self.learn(&id, source);
        Ok(Some(id))
    }

    /// The id of the image that was last pulled by this name, if it is unpacked.
    pub(crate) fn named(&self, reference: &str) -> Option<String> {
        let id = fs::read_to_string(self.name(reference)).ok()?;
        self.has(&id).then_some(id)
    }

    /// The folder that remembers when `backend` pulled what.
    pub(crate) fn pulled_by(&self, backend: &str) -> PathBuf {
        self.folder.join("pulled").join(backend)
    }

    /// Pulls the image that a name means now; gives its id.
    pub(crate) async fn pull(&self, reference: &str) -> Result<String, String> {
        let told = |error: io::Error| format!("cannot write to {}: {error}", self.folder.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(told)?;
        let work =
            tempfile::Builder::new().prefix(".pull-").tempdir_in(&self.folder).map_err(told)?;
        let layout = work.path().join("layout");
        pull_layout(reference, &layout).await?;
        let id = self.find(&layout)?.ok_or("nothing was pulled")?;
        // Now, as the layout goes.
        self.image(&id)?;
        let name = self.name(reference);
        name.parent().map_or(Ok(()), fs::create_dir_all).map_err(told)?;
        fs::write(name, &id).map_err(told)?;
        Ok(id)
    }

    /// The file that says what a name meant when it was last pulled.
    fn name(&self, reference: &str) -> PathBuf {
        let digest = blake3::hash(reference.as_bytes()).to_hex();
        self.folder.join("names").join(&digest[..32])
    }

    /// Says where the image with this id comes from.
    pub(crate) fn learn(&self, id: &str, source: Source) {
        self.sources.lock().expect("no holder panics").insert(id.to_owned(), Arc::new(source));
    }

    /// Whether the image is unpacked already.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.place(id).join(CONFIG).is_file()
    }

    /// The image with this id, which is unpacked if it was not; blocks until it is.
    pub(crate) fn image(&self, id: &str) -> Result<Arc<Unpacked>, String> {
        let image =
            self.images.lock().expect("no holder panics").entry(id.to_owned()).or_default().clone();
        image.get_or_init(|| self.load(id).map(Arc::new)).clone()
    }

    /// Writes the image with this id, which was found in a file, as an archive that engines take
    /// in.
    pub(crate) fn save(&self, id: &str, archive: &Path) -> Result<(), String> {
        let source = self.sources.lock().expect("no holder panics").get(id).cloned();
        let Some(Source::File(path)) = source.as_deref() else {
            return Err("a folder that is a root is for the sandbox only".to_owned());
        };
        let place = Place::open(path)?;
        save(&place, &found(&place, id)?, archive)
    }

    fn place(&self, id: &str) -> PathBuf {
        self.folder.join(id.replace(':', "-"))
    }

    fn load(&self, id: &str) -> Result<Unpacked, String> {
        let source = self.sources.lock().expect("no holder panics").get(id).cloned();
        if let Some(Source::Root(root)) = source.as_deref() {
            return unpacked(root.clone(), Config::default());
        }
        if !self.has(id) {
            let source = source.ok_or_else(|| format!("the image {id} is gone"))?;
            self.unpack(id, &source)?;
        }
        let place = self.place(id);
        let config = fs::read(place.join(CONFIG)).map_err(|error| error.to_string())?;
        let config = serde_json::from_slice(&config).map_err(|error| error.to_string())?;
        unpacked(place.join(ROOT), config)
    }

    /// Unpacks an image beside its place, and puts it there when it is whole.
    fn unpack(&self, id: &str, source: &Source) -> Result<(), String> {
        let told =
            |error: io::Error| format!("cannot unpack into {}: {error}", self.folder.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(told)?;
        let work =
            tempfile::Builder::new().prefix(".new-").tempdir_in(&self.folder).map_err(told)?;
        let archive = match source {
            Source::File(path) => path.clone(),
            Source::Writer(write) => {
                let archive = work.path().join("archive");
                write(&archive)?;
                archive
            }
            Source::Root(_) => unreachable!("a root is not unpacked"),
        };
        let place = Place::open(&archive)?;
        let found = found(&place, id)?;
        let image = work.path().join("image");
        fs::create_dir_all(image.join(ROOT)).map_err(told)?;
        for path in [&image, &image.join(ROOT)] {
            // Also for users of the image that are not this one.
            fs::set_permissions(path, PermissionsExt::from_mode(0o755)).map_err(told)?;
        }
        unpack_layers(&place, &found, &image.join(ROOT))?;
        let config = serde_json::to_vec(&found.config).expect("it is plain data");
        fs::write(image.join(CONFIG), config).map_err(told)?;
        match fs::rename(&image, self.place(id)) {
            // Somebody else was faster.
            Err(_) if self.has(id) => Ok(()),
            renamed => renamed.map_err(told),
        }
    }
}

fn unpacked(root: PathBuf, config: Config) -> Result<Unpacked, String> {
    let user = User::find(&config.user, &root)?;
    Ok(Unpacked { root, config, user })
}

/// What is in the folder of an image.
const ROOT: &str = "root";
const CONFIG: &str = "config.json";

/// The image in `place`, which was found there before.
fn found(place: &Place, id: &str) -> Result<Found, String> {
    let found = manifest::find(place)?.filter(|found| found.id == id);
    found.ok_or_else(|| "it has changed since it was looked at".to_owned())
}

fn unpack_layers(place: &Place, found: &Found, root: &Path) -> Result<(), String> {
    for layer in &found.layers {
        let (diff_id, digest) = unpack(place.file(&layer.name)?, root)?;
        let told = layer.digest.as_ref().unwrap_or(&digest);
        for (told, is) in [(told, &digest), (&layer.diff_id, &diff_id)] {
            if told != is {
                return Err(format!("a layer is not what it is said to be: {told}, but {is}"));
            }
        }
    }
    Ok(())
}

/// A digest of the names, kinds, owners and times of everything in a folder.
fn tree_digest(folder: &Path) -> io::Result<String> {
    fn walk(folder: &Path, hasher: &mut blake3::Hasher) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        hasher.update(&(entries.len() as u64).to_le_bytes());
        for entry in entries {
            let name = entry.file_name();
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            let meta = entry.metadata()?;
            for number in numbers(&meta) {
                hasher.update(&number.to_le_bytes());
            }
            if meta.is_dir() {
                walk(&entry.path(), hasher)?;
            } else if meta.is_symlink() {
                hasher.update(fs::read_link(entry.path())?.as_os_str().as_bytes());
            }
        }
        Ok(())
    }
    fn numbers(meta: &Metadata) -> [i64; 6] {
        let size = if meta.is_dir() { 0 } else { meta.size() as i64 };
        let owner = [i64::from(meta.mode()), i64::from(meta.uid()), i64::from(meta.gid())];
        [owner[0], owner[1], owner[2], size, meta.mtime(), meta.mtime_nsec()]
    }
    let mut hasher = blake3::Hasher::new_derive_key("clnrm 2026-11 image root v1");
    walk(folder, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}
