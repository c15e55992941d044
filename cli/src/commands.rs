//! One file a verb.

pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod dry_run;
pub(crate) mod init;
pub(crate) mod render;
pub(crate) mod run;
