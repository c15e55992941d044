//! A user without privileges, on whose behalf root runs tests.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Gid, Uid, geteuid};

use crate::case::clnrm;
use crate::lacking::note;

/// The user that owns nothing.
pub(crate) struct Nobody;

const ID: u32 = 65534;

impl Nobody {
    /// Whether this is root; loudly when not, as then the other tests are such a user's anyway.
    pub(crate) fn can_be(test: &str) -> bool {
        if !geteuid().is_root() {
            note(test, "root, to become another user; other tests run as this one");
        }
        geteuid().is_root()
    }

    /// Whether this user may write to a file, by its mode.
    pub(crate) fn may_write(path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o002 != 0)
    }

    /// clnrm where this user may reach it: `folder` is opened to all.
    pub(crate) fn program(folder: &Path) -> PathBuf {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        let program = folder.join("clnrm");
        if !program.exists() && fs::hard_link(clnrm(), &program).is_err() {
            fs::copy(clnrm(), &program).unwrap();
        }
        program
    }

    /// Gives it a folder.
    pub(crate) fn owns(folder: &Path) {
        chown(folder, Some(ID), Some(ID)).unwrap();
    }

    /// Has it run a program.
    pub(crate) fn runs(command: &mut Command) {
        command.uid(ID).gid(ID);
    }

    /// Makes this thread, and whatever it starts, that user's. There is no way back.
    pub(crate) fn become_it() {
        let (user, group) = (Uid::from_raw(ID), Gid::from_raw(ID));
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(group, group, group).unwrap();
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
    }
}
