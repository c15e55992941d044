//! Builds a container's root: an image, or the machine's system folders, under throw-away layers,
//! and nothing else of the machine but what was mounted on purpose.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind,
    mount_change, move_mount, open_tree,
};

use super::{Spec, SpecMount};
use crate::agent::sys;
use crate::{STORE, agent, host};

/// A folder every machine has; it is covered in the container's own mount namespace only.
const STAGE: &str = "/tmp";

/// Builds the root and gives its path; `/proc` in it is still empty.
pub(super) fn build(spec: &Spec) -> Result<PathBuf, String> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    attempt("make mounts private", mount_change("/", private))?;
    // Taken hold of before the stage covers what may lie below it.
    let folder = Tree::open(&spec.folder)?;
    let mounts =
        spec.mounts.iter().map(|mount| Tree::open(&mount.source)).collect::<Result<Vec<_>, _>>()?;
    let image = spec.image.as_ref().map(|image| Tree::open(&image.root)).transpose()?;
    let stage = Path::new(STAGE);
    let size = spec.disk_mb.map_or("50%".to_owned(), |megabytes| format!("{megabytes}m"));
    mount_tmpfs(stage, &format!("mode=0755,size={size}"))?;
    let root = stage.join("root");
    for part in ["root", "upper", "work"] {
        attempt("make the stage", fs::create_dir(stage.join(part)))?;
    }
    let covers = stage.join(COVERS);
    attempt("make covers", fs::create_dir(&covers))?;
    attempt("make covers", File::create(stage.join(EMPTY_FILE)))?;
    attempt("make covers", fs::create_dir(stage.join(EMPTY_FOLDER)))?;
    // What is mounted of a read-only mount is read-only.
    let sealed = Tree::open(&covers)?;
    sealed.seal()?;
    sealed.move_to(&covers)?;
    match image {
        Some(image) => lay_image(image, stage, &root)?,
        None => lay_host(stage, &root, &spec.masked)?,
    }
    write_names(&root, spec)?;
    make_dev(&root)?;
    folder.attach(&root, Path::new(agent::FOLDER), true, stage)?;
    for (mount, tree) in spec.mounts.iter().zip(mounts) {
        let SpecMount { source, target, read_only } = mount;
        tree.attach(&root, target, *read_only, stage)
            .map_err(|reason| format!("{} at {}: {reason}", source.display(), target.display()))?;
    }
    Ok(root)
}

/// Where on the stage there is what covers a file, and what covers a folder.
const COVERS: &str = "covers";
const EMPTY_FILE: &str = "covers/file";
const EMPTY_FOLDER: &str = "covers/folder";

/// An image under a layer that takes the writes.
fn lay_image(image: Tree, stage: &Path, root: &Path) -> Result<(), String> {
    let lower = stage.join("image");
    attempt("make the stage", image.make_place(&lower))?;
    image.move_to(&lower)?;
    overlay(stage, &lower, root)?;
    for path in ["dev", "etc", "proc", "sys", "tmp"] {
        let folder = root.join(path);
        if !folder.is_dir() {
            attempt("make folders", fs::create_dir(&folder))?;
        }
    }
    Ok(())
}

/// The machine's system folders.
fn lay_host(stage: &Path, root: &Path, masked: &[PathBuf]) -> Result<(), String> {
    mount_tmpfs(root, "mode=0755")?;
    for path in host::EMPTY {
        attempt("make folders", fs::create_dir_all(inside(root, path)))?;
    }
    for path in host::SHOWN {
        show(stage, root, Path::new(path))?;
    }
    mask(stage, root, masked)?;
    // On the stage, whose size is what a container may write in all.
    for (path, mode) in [("/tmp", 0o1777), ("/var/tmp", 0o1777), ("/run", 0o755)] {
        let own = stage.join(path.replace('/', "_"));
        attempt("make folders", fs::create_dir(&own))?;
        attempt("make folders", fs::set_permissions(&own, fs::Permissions::from_mode(mode)))?;
        attempt("make folders", mount_bind(&own, inside(root, path)))?;
    }
    Ok(())
}

/// Shows one of the machine's folders: under a layer that takes the writes or, where the kernel
/// does not allow that, read-only.
fn show(stage: &Path, root: &Path, path: &Path) -> Result<(), String> {
    let target = inside(root, path);
    if let Ok(link) = fs::read_link(path) {
        return attempt("link system folders", symlink(link, target));
    }
    if !path.is_dir() {
        return Ok(());
    }
    attempt("make system folders", fs::create_dir(&target))?;
    let layered = overlay(stage, path, &target);
    if layered.is_err() {
        let tree = Tree::open(path)?;
        tree.seal()?;
        tree.move_to(&target)?;
    }
    Ok(())
}

/// Mounts `lower` at `target` with a fresh layer for the writes on top.
fn overlay(stage: &Path, lower: &Path, target: &Path) -> Result<(), String> {
    let layer =
        target.as_os_str().len().to_string() + &target.display().to_string().replace('/', "_");
    let (upper, work) = (stage.join("upper").join(&layer), stage.join("work").join(&layer));
    attempt("make a layer", fs::create_dir(&upper))?;
    attempt("make a layer", fs::create_dir(&work))?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = attempt("name a layer", std::ffi::CString::new(options))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    attempt("mount a layer", mount("overlay", target, "overlay", flags, options.as_c_str()))
}

/// Covers what is secret on the machine.
fn mask(stage: &Path, root: &Path, masked: &[PathBuf]) -> Result<(), String> {
    let (file, folder) = (stage.join(EMPTY_FILE), stage.join(EMPTY_FOLDER));
    for path in masked {
        let target = inside(root, path);
        let Ok(meta) = fs::symlink_metadata(&target) else { continue };
        let cover = if meta.is_dir() { &folder } else { &file };
        attempt("mask a secret", mount_bind(cover, &target))?;
    }
    Ok(())
}

/// The cell's host names, and who to ask for others.
fn write_names(root: &Path, spec: &Spec) -> Result<(), String> {
    for (path, content) in [
        ("/etc/hosts", spec.hosts.as_str()),
        ("/etc/hostname", &format!("{}\n", spec.hostname)),
        ("/etc/resolv.conf", spec.resolver.as_str()),
    ] {
        let source = Path::new(STAGE).join(path.replace('/', "_"));
        attempt("write host names", fs::write(&source, content))?;
        let target = inside(root, path);
        // A link leads somewhere else once the root is another; it cannot be covered, but replaced.
        if fs::symlink_metadata(&target).is_ok_and(|meta| meta.is_file()) {
            attempt("set host names", mount_bind(&source, &target))?;
            continue;
        }
        let _ = fs::remove_file(&target);
        let written = fs::write(&target, content);
        // Without the folder there is nobody who would look for it.
        if !content.is_empty() && target.parent().is_some_and(Path::is_dir) {
            attempt("write host names", written)?;
        }
    }
    Ok(())
}

fn make_dev(root: &Path) -> Result<(), String> {
    let dev = inside(root, "/dev");
    mount_tmpfs(&dev, "mode=0755,size=1m")?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let target = dev.join(name);
        attempt("make devices", File::create(&target))?;
        attempt("make devices", mount_bind(Path::new("/dev").join(name), &target))?;
    }
    let links =
        [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")];
    for (name, to) in links {
        attempt("make devices", symlink(to, dev.join(name)))?;
    }
    attempt("make devices", fs::create_dir(dev.join("shm")))?;
    mount_tmpfs(&dev.join("shm"), "mode=1777,size=64m")
}

/// A file or folder of the machine, taken hold of wherever it lies.
struct Tree {
    fd: OwnedFd,
    is_folder: bool,
}

impl Tree {
    fn open(path: &Path) -> Result<Tree, String> {
        let meta = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE;
        let fd = open_tree(CWD, path, flags)
            .map_err(|error| format!("cannot mount {}: {error}", path.display()))?;
        Ok(Tree { fd, is_folder: meta.is_dir() })
    }

    /// Shows it at `target`: read-only, or as a copy that takes the writes.
    fn attach(
        self,
        root: &Path,
        target: &Path,
        read_only: bool,
        stage: &Path,
    ) -> Result<(), String> {
        let place = inside(root, target);
        attempt("make a mount point", self.make_place(&place))?;
        if read_only {
            self.seal()?;
            self.move_to(&place)?;
            return hide_store(&place, stage);
        }
        // Its own place on the stage, from which it is layered or copied.
        let name = format!("source{}", self.fd.as_raw_fd());
        let source = stage.join(name);
        attempt("make a mount point", self.make_place(&source))?;
        self.move_to(&source)?;
        if self.is_folder {
            return overlay(stage, &source, &place);
        }
        attempt("copy a file", fs::copy(&source, &place)).map(drop)
    }

    fn seal(&self) -> Result<(), String> {
        attempt("make a mount read-only", sys::seal(self.fd.as_fd()))
    }

    fn move_to(&self, place: &Path) -> Result<(), String> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        attempt("mount", move_mount(self.fd.as_fd(), "", CWD, place, flags))
    }

    fn make_place(&self, place: &Path) -> io::Result<()> {
        if self.is_folder {
            return fs::create_dir_all(place);
        }
        place.parent().map_or(Ok(()), fs::create_dir_all)?;
        if place.exists() { Ok(()) } else { File::create(place).map(drop) }
    }
}

/// Covers the store of a workspace that is mounted as a whole.
fn hide_store(place: &Path, stage: &Path) -> Result<(), String> {
    let store = place.join(STORE);
    if !store.is_dir() {
        return Ok(());
    }
    attempt("hide the store", mount_bind(stage.join(EMPTY_FOLDER), &store))
}

fn mount_tmpfs(target: &Path, options: &str) -> Result<(), String> {
    let options = attempt("name options", std::ffi::CString::new(options))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    attempt("mount a tmpfs", mount("clnrm", target, "tmpfs", flags, options.as_c_str()))?;
    // The mode asked for, whatever the umask.
    let mode = if options.to_bytes().starts_with(b"mode=1777") { 0o1777 } else { 0o755 };
    attempt("mount a tmpfs", fs::set_permissions(target, fs::Permissions::from_mode(mode)))
}

/// `path` of the container, below the root being built.
fn inside(root: &Path, path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn attempt<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}
