//! Whom an image runs as.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

/// The most that is read of a file of names, in bytes.
const MOST: u64 = 1 << 20;

/// A user by its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: u32,
    pub(crate) group: u32,
    pub(crate) home: String,
}

impl User {
    /// The user that `user[:group]` means in an image with this root; each is a name or a number.
    pub(super) fn find(said: &str, root: &Path) -> Result<User, String> {
        let (name, group) = said.split_once(':').map_or((said, None), |(n, g)| (n, Some(g)));
        let name = if name.is_empty() { "0" } else { name };
        let users = read(root, "etc/passwd");
        // name:password:id:group:comment:home:shell
        let named = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let entry = named
            .filter(|fields| fields.len() >= 6)
            .find(|fields| fields[0] == name || fields[2] == name);
        let own = entry.as_ref().and_then(|entry| {
            let (id, group) = (entry[2].parse().ok()?, entry[3].parse().ok()?);
            Some(User { id, group, home: entry[5].to_owned() })
        });
        let unknown = || format!("the image is to run as `{said}`, and it has no such user");
        let nameless = |id| User { id, group: 0, home: "/".to_owned() };
        let mut user = own.or_else(|| name.parse().ok().map(nameless)).ok_or_else(unknown)?;
        if let Some(group) = group {
            let groups = read(root, "etc/group");
            let named = groups.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next()? == group).then(|| fields.nth(1)?.parse().ok())?
            });
            user.group = named.or_else(|| group.parse().ok()).ok_or_else(unknown)?;
        }
        if user.id == 0 && user.home == "/" {
            user.home = "/root".to_owned();
        }
        Ok(user)
    }
}

/// A file of an image, followed inside it only; empty when it cannot be read.
fn read(root: &Path, path: &str) -> String {
    let mut text = String::new();
    let open = || -> std::io::Result<File> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        let (flags, resolve) = (OFlags::RDONLY | OFlags::CLOEXEC, ResolveFlags::IN_ROOT);
        Ok(rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)?.into())
    };
    if let Ok(file) = open() {
        let _ = file.take(MOST).read_to_string(&mut text);
    }
    text
}
