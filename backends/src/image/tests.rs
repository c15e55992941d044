//! Images made here, good and bad, and what becomes of them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use expect_test::expect;
use serde_json::json;
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::manifest::digest_of;
use super::{Shelf, Unpacked, architecture};

/// A layer being made.
struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    fn new() -> Layer {
        Layer(tar::Builder::new(Vec::new()))
    }

    fn entry(mut self, path: &str, kind: EntryType, mode: u32, to: &str, content: &[u8]) -> Layer {
        let mut header = Header::new_gnu();
        // As it is, whatever the library thinks of it.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + to.len()].copy_from_slice(to.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1000);
        header.set_size(content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, path: &str, text: &str) -> Layer {
        self.entry(path, EntryType::Regular, 0o644, "", text.as_bytes())
    }

    fn folder(self, path: &str) -> Layer {
        self.entry(path, EntryType::Directory, 0o755, "", b"")
    }

    fn link(self, path: &str, to: &str) -> Layer {
        self.entry(path, EntryType::Symlink, 0o777, to, b"")
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An OCI layout being made in a folder of its own.
struct Layout {
    folder: TempDir,
    architecture: &'static str,
    diff_ids: Vec<String>,
    layers: Vec<String>,
}

impl Layout {
    fn of(layers: impl IntoIterator<Item = Layer>) -> Layout {
        let folder = TempDir::new().unwrap();
        fs::create_dir_all(folder.path().join("image/blobs/sha256")).unwrap();
        let architecture = architecture();
        let mut layout = Layout { folder, architecture, diff_ids: vec![], layers: vec![] };
        for layer in layers {
            let plain = layer.done();
            layout.diff_ids.push(digest_of(&plain));
            // Every way a layer may be packed.
            let packed = match layout.layers.len() % 3 {
                0 => gzip(&plain),
                1 => zstd::encode_all(&plain[..], 1).unwrap(),
                _ => plain,
            };
            let digest = layout.blob(&packed);
            layout.layers.push(digest);
        }
        layout
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn blob_path(&self, digest: &str) -> PathBuf {
        self.path().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
    }

    fn blob(&self, content: &[u8]) -> String {
        let digest = digest_of(content);
        fs::write(self.blob_path(&digest), content).unwrap();
        digest
    }

    fn config(&self) -> Vec<u8> {
        let config = json!({
            "architecture": self.architecture,
            "config": {"Env": ["A=b"], "Entrypoint": ["/bin/app"], "Cmd": ["x"], "User": "app"},
            "rootfs": {"diff_ids": self.diff_ids},
        });
        serde_json::to_vec(&config).unwrap()
    }

    /// Writes what says which image it is.
    fn finished(self) -> Layout {
        let layers: Vec<_> = self.layers.iter().map(|digest| json!({"digest": digest})).collect();
        let config = self.blob(&self.config());
        let manifest = json!({"config": {"digest": config}, "layers": layers});
        let manifest = self.blob(&serde_json::to_vec(&manifest).unwrap());
        let index = json!({"manifests": [{"digest": manifest}]});
        fs::write(self.path().join("oci-layout"), "{}").unwrap();
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
        self
    }

    /// As one file.
    fn archived(&self) -> PathBuf {
        let archive = self.folder.path().join("image.tar");
        let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
        builder.append_dir_all(".", self.path()).unwrap();
        builder.finish().unwrap();
        archive
    }

    /// Unpacked; the folder goes with the layout.
    fn unpacked(&self) -> Result<Unpacked, String> {
        unpacked(&self.path(), self.folder.path())
    }
}

fn unpacked(image: &Path, folder: &Path) -> Result<Unpacked, String> {
    let shelf = Shelf::at(folder.join("shelf"));
    let id = shelf.find(image)?.expect("it is there");
    let unpacked = shelf.image(&id);
    let left = fs::read_dir(folder.join("shelf")).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(left.count(), 0, "nothing is left of the work");
    unpacked.map(|image| {
        let Unpacked { root, config, user } = &*image;
        Unpacked { root: root.clone(), config: config.clone(), user: user.clone() }
    })
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Every path below a folder, with what it is.
fn listing(root: &Path) -> String {
    fn walk(root: &Path, folder: &Path, lines: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let meta = entry.metadata().unwrap();
            let mode = meta.permissions().mode() & 0o7777;
            if meta.is_symlink() {
                lines.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else if meta.is_dir() {
                lines.push(format!("{name}/ {mode:o}"));
                walk(root, &path, lines);
            } else {
                lines.push(format!("{name} {mode:o} {}", fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut lines = Vec::new();
    walk(root, root, &mut lines);
    lines.sort();
    lines.join("\n") + "\n"
}

fn good() -> [Layer; 3] {
    let passwd = "root:x:0:0::/root:/bin/sh\napp:x:7:8::/home/app:/bin/sh\n";
    [
        Layer::new()
            .folder("etc/")
            .file("etc/passwd", passwd)
            .folder("usr/")
            .folder("usr/bin/")
            .link("bin", "usr/bin")
            .file("opt/a", "a")
            .file("opt/b", "b")
            .file("srv/old/x", "x"),
        Layer::new()
            .entry("bin/app", EntryType::Regular, 0o4755, "", b"app")
            .entry("usr/bin/again", EntryType::Link, 0o755, "usr/bin/app", b"")
            .file("opt/.wh.a", "")
            .file("srv/old/new", "new")
            .file("srv/old/.wh..wh..opq", ""),
        Layer::new()
            .file("opt", "a file now")
            .entry("dev/sda", EntryType::Block, 0o600, "", b"")
            .entry("/abs", EntryType::Regular, 0o600, "", b"inside"),
    ]
}

#[test]
fn layers_are_laid_on_each_other() {
    let image = Layout::of(good()).finished();
    let unpacked = image.unpacked().unwrap();
    expect![[r#"
        abs 600 inside
        bin -> usr/bin
        dev/ 755
        etc/ 755
        etc/passwd 644 root:x:0:0::/root:/bin/sh
        app:x:7:8::/home/app:/bin/sh

        opt 644 a file now
        srv/ 755
        srv/old/ 755
        srv/old/new 644 new
        usr/ 755
        usr/bin/ 755
        usr/bin/again 4755 app
        usr/bin/app 4755 app
    "#]]
    .assert_eq(&listing(&unpacked.root));
    expect![[r#"
        Config {
            env: [
                "A=b",
            ],
            command: [
                "/bin/app",
                "x",
            ],
            workdir: "",
            ports: [],
            user: "app",
        }
        User {
            id: 7,
            group: 8,
            home: "/home/app",
        }
    "#]]
    .assert_eq(&format!("{:#?}\n{:#?}\n", unpacked.config, unpacked.user));
    let inode = |path: &str| fs::metadata(unpacked.root.join(path)).unwrap().ino();
    assert_eq!(inode("usr/bin/app"), inode("usr/bin/again"));
    assert_eq!(fs::metadata(unpacked.root.join("usr/bin/app")).unwrap().mtime(), 1000);
}

#[test]
fn an_archive_is_the_same_image() {
    let image = Layout::of(good()).finished();
    let shelf = Shelf::at(image.folder.path().join("other shelf"));
    assert_eq!(shelf.find(&image.path()), shelf.find(&image.archived()));
    let from_archive = unpacked(&image.archived(), image.folder.path()).unwrap();
    let again = unpacked(&image.path(), image.folder.path()).unwrap();
    assert_eq!(from_archive.root, again.root);
}

#[test]
fn what_docker_saves_is_read() {
    let image = Layout::of([Layer::new().file("etc/passwd", "app:x:1:1::/:\n"), good_top()]);
    let (folder, config) = (TempDir::new().unwrap(), image.config());
    fs::write(folder.path().join("c.json"), config).unwrap();
    fs::create_dir_all(folder.path().join("0")).unwrap();
    fs::create_dir_all(folder.path().join("1")).unwrap();
    fs::copy(image.blob_path(&image.layers[0]), folder.path().join("shared.tar")).unwrap();
    std::os::unix::fs::symlink("../shared.tar", folder.path().join("0/layer.tar")).unwrap();
    fs::copy(image.blob_path(&image.layers[1]), folder.path().join("1/layer.tar")).unwrap();
    let manifest = json!([{"Config": "c.json", "Layers": ["0/layer.tar", "1/layer.tar"]}]);
    fs::write(folder.path().join("manifest.json"), manifest.to_string()).unwrap();
    let archive = image.folder.path().join("saved.tar");
    let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
    builder.follow_symlinks(false);
    builder.append_dir_all("", folder.path()).unwrap();
    builder.finish().unwrap();
    let unpacked = unpacked(&archive, image.folder.path()).unwrap();
    expect![[r#"
        etc/ 755
        etc/passwd 644 app:x:1:1::/:

        top 644 top
    "#]]
    .assert_eq(&listing(&unpacked.root));
}

fn good_top() -> Layer {
    Layer::new().file("top", "top")
}

#[test]
fn a_folder_can_be_a_root() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("x"), "x").unwrap();
    let shelf = Shelf::at(folder.path().join("shelf"));
    let id = shelf.find(folder.path()).unwrap().unwrap();
    assert_eq!(shelf.image(&id).unwrap().root, folder.path());
    fs::write(folder.path().join("x"), "longer").unwrap();
    assert_ne!(shelf.find(folder.path()).unwrap().unwrap(), id);
}

#[test]
fn no_path_leads_out() {
    let outside = TempDir::new().unwrap();
    let target = outside.path().display().to_string();
    let image = Layout::of([
        Layer::new()
            .file("etc/passwd", "app:x:1:1::/:\n")
            .link("way", &target)
            .link("up", "../../.."),
        Layer::new().file("way/pwned", "x").file("up/pwned", "y"),
    ])
    .finished();
    let unpacked = image.unpacked();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    // The link leads to a folder inside that is not there; the one upwards to the root.
    let reason = unpacked.unwrap_err();
    assert!(reason.contains("way/pwned"), "{reason}");
    for (path, told) in [("../../etc/passwd", "leads out"), ("a/../../b", "leads out")] {
        let image = Layout::of([Layer::new().file(path, "x")]).finished();
        let reason = image.unpacked().unwrap_err();
        assert!(reason.contains(told) && reason.contains(path), "{reason}");
    }
    let hard = Layer::new().entry("a", EntryType::Link, 0o644, "../../etc/passwd", b"");
    assert!(Layout::of([hard]).finished().unpacked().unwrap_err().contains("leads out"));
}

#[test]
fn zeros_take_no_space() {
    let zeros = vec![0; 32 << 20];
    let layer = Layer::new().file("etc/passwd", "app:x:1:1::/:\n").entry(
        "big",
        EntryType::Regular,
        0o644,
        "",
        &zeros,
    );
    let image = Layout::of([layer]).finished();
    let big = fs::metadata(image.unpacked().unwrap().root.join("big")).unwrap();
    assert_eq!(big.len(), 32 << 20);
    assert!(big.blocks() * 512 < 1 << 20, "{} blocks", big.blocks());
}

#[test]
fn damage_is_told() {
    let layout = || Layout::of(good());
    let failure = |layout: Layout| {
        let folder = layout.folder.path().to_owned();
        layout.unpacked().unwrap_err().replace(&folder.display().to_string(), "[FOLDER]")
    };
    let mut told = String::new();
    let mut tell = |what: &str, reason: String| {
        let digest = regex::Regex::new("[0-9a-f]{64}").unwrap();
        told += &format!("{what}: {}\n", digest.replace_all(&reason, "[DIGEST]"));
    };
    let image = layout().finished();
    let layer = image.blob_path(&image.layers[2]);
    let mut content = fs::read(&layer).unwrap();
    content[600] ^= 1;
    fs::write(&layer, content).unwrap();
    tell("a changed layer", failure(image));
    let image = layout().finished();
    let layer = image.blob_path(&image.layers[0]);
    let content = fs::read(&layer).unwrap();
    fs::write(&layer, &content[..content.len() / 2]).unwrap();
    tell("half a layer", failure(image));
    let image = layout().finished();
    fs::remove_file(image.blob_path(&image.layers[1])).unwrap();
    tell("a layer that is missing", failure(image));
    let image = layout().finished();
    let config = digest_of(&image.config());
    fs::write(image.blob_path(&config), "{}").unwrap();
    tell("another configuration", failure(image));
    let mut image = layout();
    image.diff_ids[0] = digest_of(b"x");
    tell("another archive in the layer", failure(image.finished()));
    let mut image = layout();
    image.diff_ids.pop();
    tell("a layer too many", failure(image.finished()));
    let mut image = layout();
    image.architecture = "s390x";
    tell("another machine's", failure(image.finished()));
    let image = layout().finished();
    fs::write(image.path().join("index.json"), r#"{"manifests": [{"digest": "../../x"}]}"#)
        .unwrap();
    tell("a digest that is none", failure(image));
    let image = layout().finished();
    fs::write(image.path().join("index.json"), "[").unwrap();
    tell("an index that is none", failure(image));
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("x.tar");
    fs::write(&file, "no archive").unwrap();
    tell("no archive", unpacked(&file, folder.path()).unwrap_err());
    fs::write(&file, gzip(b"x")).unwrap();
    tell("a compressed archive", unpacked(&file, folder.path()).unwrap_err());
    fs::write(&file, Layer::new().file("x", "x").done()).unwrap();
    tell("another archive", unpacked(&file, folder.path()).unwrap_err());
    expect![[r#"
        a changed layer: a layer is not what it is said to be: sha256:[DIGEST], but sha256:[DIGEST]
        half a layer: the layer is damaged: incomplete deflate stream
        a layer that is missing: cannot read blobs/sha256/[DIGEST]: No such file or directory (os error 2)
        another configuration: the blob sha256:[DIGEST] is damaged: it is sha256:[DIGEST]
        another archive in the layer: a layer is not what it is said to be: sha256:[DIGEST], but sha256:[DIGEST]
        a layer too many: its configuration tells of 2 layers, and 3 are there
        another machine's: it is for s390x, and this machine is amd64
        a digest that is none: `../../x` is no digest of the kind sha256
        an index that is none: index.json cannot be read: EOF while parsing a list at line 1 column 1
        no archive: it is no archive: failed to read entire block
        a compressed archive: the archive is compressed as a whole: decompress it first
        another archive: it holds no image: it is neither an OCI layout nor what `docker save` writes
    "#]].assert_eq(&told);
}
