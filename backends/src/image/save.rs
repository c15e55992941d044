//! An image as an archive that every engine takes in: what `docker save` writes.

use std::fs::File;
use std::io;
use std::path::Path;

use serde_json::json;
use tar::Header;

use super::manifest::Found;
use super::place::Place;
use super::unpack::plain_archive;

/// Writes the image found in `place` to `archive`, its layers decompressed.
pub(super) fn save(place: &Place, found: &Found, archive: &Path) -> Result<(), String> {
    let told = |error: io::Error| format!("cannot write {}: {error}", archive.display());
    let mut builder = tar::Builder::new(File::create(archive).map_err(told)?);
    let hex = found.id.trim_start_matches("sha256:");
    let config = format!("{hex}.json");
    append(&mut builder, &config, found.raw_config.len() as u64, &found.raw_config[..])
        .map_err(told)?;
    let mut names = Vec::new();
    for (index, layer) in found.layers.iter().enumerate() {
        let name = format!("layer{index}.tar");
        // Its length is to be known first.
        let mut plain = tempfile::tempfile().map_err(told)?;
        let mut reader = plain_archive(place.file(&layer.name)?)?;
        let length = io::copy(&mut reader, &mut plain).map_err(told)?;
        io::Seek::rewind(&mut plain).map_err(told)?;
        append(&mut builder, &name, length, plain).map_err(told)?;
        names.push(name);
    }
    let tag = format!("localhost/clnrm/image:{}", hex.get(..16).unwrap_or(hex));
    let manifest = json!([{ "Config": config, "RepoTags": [tag], "Layers": names }]).to_string();
    append(&mut builder, "manifest.json", manifest.len() as u64, manifest.as_bytes())
        .map_err(told)?;
    builder.finish().map_err(told)
}

fn append(
    builder: &mut tar::Builder<File>,
    name: &str,
    length: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(length);
    builder.append_data(&mut header, name, content)
}
