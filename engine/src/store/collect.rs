//! Collects rubbish: what belongs to files that are gone, and effects nobody has used for long.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use redb::{ReadableTable, WriteTransaction};

use super::rows::encode_roots;
use super::write::{decode_roots, drop_roots, effects_of};
use super::{
    Collected, EFFECTS, EffectRow, ROOTS, STAT, UNITS, VALUES, decode_effect, open_seal, seal,
    unit_of,
};
use crate::digest::Digest;
use crate::world::join;

/// Removes what belongs to paths that are not there any more, then effects until the values of the
/// rest take no more than `budget` bytes: first those no root rests on, least recently used first.
pub(super) fn collect(
    transaction: &WriteTransaction,
    budget: u64,
    exists: &dyn Fn(&str) -> bool,
) -> Result<Collected, redb::Error> {
    let mut gone = BTreeSet::new();
    let mut units = transaction.open_table(UNITS)?;
    units.retain(|key, _| {
        let path = unit_of(key).map(|unit| unit.path);
        let keep = path.as_ref().is_some_and(|path| path.is_empty() || exists(path));
        if !keep {
            gone.extend(path);
        }
        keep
    })?;
    let mut stat = transaction.open_table(STAT)?;
    stat.retain(|key, _| {
        std::str::from_utf8(key).is_ok_and(|folder| folder.is_empty() || exists(folder))
    })?;
    let mut roots = transaction.open_table(ROOTS)?;
    let (mut changed, mut rested_on) = (Vec::new(), BTreeSet::new());
    for row in roots.iter()? {
        let (key, row) = row?;
        let Some((folder, mut traces)) = decode_roots(key.value(), row.value()) else { continue };
        let before = traces.len();
        traces.retain(|name, _| {
            let path = join(&folder, name.split('\0').next().unwrap_or_default());
            path.is_empty() || exists(&path)
        });
        rested_on.extend(traces.values().flat_map(effects_of).map(|(effect, _)| *effect));
        if traces.len() < before {
            let row = seal(key.value(), encode_roots(&folder, &traces));
            changed.push((key.value().to_vec(), (!traces.is_empty()).then_some(row)));
        }
    }
    for (key, row) in changed {
        match row {
            Some(row) => drop(roots.insert(&*key, &*row)?),
            None => drop(roots.remove(&*key)?),
        }
    }
    let mut values = transaction.open_table(VALUES)?;
    let mut sizes = HashMap::new();
    for row in values.iter()? {
        let (key, value) = row?;
        sizes.insert(key.value().to_vec(), value.value().len() as u64);
    }
    let mut effects = transaction.open_table(EFFECTS)?;
    // In the order in which they are to go.
    let mut in_order = BTreeMap::new();
    for row in effects.iter()? {
        let (key, row) = row?;
        let (Ok(digest), Some(EffectRow { value, day, .. })) = (
            key.value().try_into().map(Digest),
            open_seal(key.value(), row.value()).and_then(decode_effect),
        ) else {
            continue;
        };
        in_order.insert((rested_on.contains(&digest), day, digest), value);
    }
    let total: u64 = in_order.values().filter_map(|value| sizes.get(&value.0[..])).sum();
    let mut collected = Collected { files: gone.len() as u64, ..Collected::default() };
    let (mut over, mut contradicted) = (total.saturating_sub(budget), BTreeSet::new());
    let mut kept = BTreeSet::new();
    for ((rested_on, _, key), value) in in_order {
        let size = sizes.get(&value.0[..]).copied().unwrap_or(0);
        if over == 0 {
            kept.insert(value);
            continue;
        }
        over = over.saturating_sub(size);
        collected.effects += 1;
        effects.remove(&key.0[..])?;
        if rested_on {
            contradicted.insert(key);
        }
    }
    if !contradicted.is_empty() {
        drop_roots(&mut roots, &contradicted)?;
    }
    values.retain(|key, value| {
        let keep = key.try_into().is_ok_and(|key| kept.contains(&Digest(key)));
        if !keep {
            collected.bytes += value.len() as u64;
        }
        keep
    })?;
    Ok(collected)
}
