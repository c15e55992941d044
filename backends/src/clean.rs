//! Removes what killed runs have left.

use std::fs;

use crate::choose::of_all_engines;
use crate::engine::Engages;
use crate::image::Shelf;
use crate::{sandbox, scenario};

/// Removes containers, folders and control groups of runs whose process is gone, and with `images`
/// all unpacked images; tells what was removed, and what could not be.
pub fn clean(images: bool) -> (Vec<String>, Vec<String>) {
    let (removed, troubles) = of_all_engines(|it| it.engaged().clean(), |it| it.engaged().clean());
    let mut removed: Vec<String> = removed.into_iter().flatten().collect();
    let folders = scenario::sweep().into_iter();
    removed.extend(folders.map(|path| format!("the folder {}", path.display())));
    let groups = sandbox::sweep_cgroups().into_iter();
    removed.extend(groups.map(|path| format!("the control group {}", path.display())));
    if images {
        let folder = Shelf::of_user().folder().to_owned();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if fs::remove_dir_all(entry.path()).is_ok() {
                removed.push(format!("the image {}", entry.file_name().to_string_lossy()));
            }
        }
    }
    (removed, troubles)
}
