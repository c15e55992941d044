//! Writes a batch in one transaction, in the order of the keys: sorted rows are written six times
//! faster than scattered ones.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use redb::{ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::rows::{
    FolderRoots, QueryNames, RootsRow, decode_unit, encode_roots, encode_unit, root_name,
};
use super::{Batch, EFFECTS, EffectRow, ROOTS, RUNS, STAT, TABLES, UNITS, VALUES};
use super::{decode_effect, encode, open_seal, roots_key, seal, unit_key, value};
use crate::digest::Digest;
use crate::fault::{self, Fault};
use crate::key::Leaf;
use crate::trace::{RootTrace, effect_digest};
use crate::world::split;

/// So many runs are remembered.
const RUNS_KEPT: u64 = 10;

type Rows<'t> = Table<'t, &'static [u8], &'static [u8]>;

pub(super) fn batch(
    transaction: &WriteTransaction,
    batch: &Batch,
    queries: &QueryNames,
) -> Result<(), redb::Error> {
    // Every table exists in every store, so that reading never has to ask.
    for definition in TABLES {
        transaction.open_table(definition)?;
    }
    let mut units = transaction.open_table(UNITS)?;
    write_units(&mut units, batch, queries)?;
    let mut effects = transaction.open_table(EFFECTS)?;
    let contradicted = write_effects(transaction, &mut effects, batch)?;
    let mut roots = transaction.open_table(ROOTS)?;
    if !contradicted.is_empty() && !fault::is(Fault::ContradictedRootsKept) {
        drop_roots(&mut roots, &contradicted)?;
    }
    write_roots(&mut roots, &effects, batch)?;
    let mut stat = transaction.open_table(STAT)?;
    for (folder, index) in &batch.index {
        let key = folder.as_bytes();
        stat.insert(key, &*seal(key, index.clone()))?;
    }
    if let Some(run) = &batch.run {
        let mut runs = transaction.open_table(RUNS)?;
        // Of two that end in one second the later one is remembered.
        let key = run.seconds.to_be_bytes();
        runs.insert(&key[..], &*seal(&key, run.encode()))?;
        while runs.len()? > RUNS_KEPT {
            runs.pop_first()?;
        }
    }
    Ok(())
}

fn write_units(
    units: &mut Rows<'_>,
    batch: &Batch,
    queries: &QueryNames,
) -> Result<(), redb::Error> {
    let new = batch.units.iter().map(|(unit, traces)| (unit_key(unit), (unit, traces)));
    merge(units, new, |known, (unit, traces)| {
        let known = known.and_then(|row| decode_unit(unit, row, queries));
        let mut all = known.filter(|_| !fault::is(Fault::UnitRowReplaced)).unwrap_or_default();
        all.extend(traces.iter().map(|(query, trace)| (*query, trace.clone())));
        encode_unit(unit, &all)
    })
}

/// Writes, for each key, what becomes of the row there is and what is new. All are read before any is
/// written, and made in parallel.
fn merge<T: Send>(
    table: &mut Rows<'_>,
    new: impl Iterator<Item = (Vec<u8>, T)>,
    merged: impl Fn(Option<&[u8]>, T) -> Vec<u8> + Sync,
) -> Result<(), redb::Error> {
    let mut both = Vec::new();
    for (key, new) in new {
        let known = table.get(&*key)?.map(|row| row.value().to_vec());
        both.push((key, known, new));
    }
    // A row alone is not worth another thread.
    let rows = both.into_par_iter().with_min_len(2).map(|(key, known, new)| {
        let known = known.as_deref().and_then(|row| open_seal(&key, row));
        let row = seal(&key, merged(known, new));
        (key, row)
    });
    for (key, row) in rows.collect::<Vec<_>>() {
        table.insert(&*key, &*row)?;
    }
    Ok(())
}

/// Writes effects; tells the keys of those that were known otherwise.
fn write_effects(
    transaction: &WriteTransaction,
    effects: &mut Rows<'_>,
    batch: &Batch,
) -> Result<BTreeSet<Digest>, redb::Error> {
    let (mut contradicted, mut values) = (BTreeSet::new(), BTreeMap::new());
    let day = batch.day;
    for (key, signed) in &batch.effects {
        let known = effect(effects, key)?.map(|known| known.value);
        let digest = signed.as_ref().map(|signed| Digest::of("value", &signed.value));
        if known.is_some() && known != digest {
            contradicted.insert(*key);
        }
        match (digest, signed) {
            (Some(value), Some(signed)) => {
                let row = encode(&EffectRow { value, day, by: signed.by });
                effects.insert(&key.0[..], &*seal(&key.0, row))?;
                values.insert(value, &signed.value);
            }
            _ => drop(effects.remove(&key.0[..])?),
        }
    }
    for key in batch.used.iter().filter(|key| !batch.effects.contains_key(key)) {
        if let Some(known) = effect(effects, key)? {
            let row = encode(&EffectRow { day, ..known });
            effects.insert(&key.0[..], &*seal(&key.0, row))?;
        }
    }
    let mut table = transaction.open_table(VALUES)?;
    for (digest, value) in values {
        table.insert(&digest.0[..], &*value::pack(value))?;
    }
    Ok(contradicted)
}

fn effect(effects: &Rows<'_>, key: &Digest) -> Result<Option<EffectRow>, redb::Error> {
    let row = effects.get(&key.0[..])?;
    Ok(row.and_then(|row| decode_effect(open_seal(&key.0, row.value())?)))
}

/// Drops the roots that rest on effects of these keys. So whatever a root says of an effect is
/// what the store says of it, and a root can be recalled without looking.
pub(super) fn drop_roots(
    roots: &mut Rows<'_>,
    effects: &BTreeSet<Digest>,
) -> Result<(), redb::Error> {
    let mut changed = Vec::new();
    for row in roots.iter()? {
        let (key, row) = row?;
        let Some((folder, mut traces)) = decode_roots(key.value(), row.value()) else { continue };
        let before = traces.len();
        traces.retain(|_, trace| effects_of(trace).all(|(effect, _)| !effects.contains(effect)));
        if traces.len() < before {
            changed.push((key.value().to_vec(), seal(key.value(), encode_roots(&folder, &traces))));
        }
    }
    for (key, row) in changed {
        roots.insert(&*key, &*row)?;
    }
    Ok(())
}

fn write_roots(roots: &mut Rows<'_>, effects: &Rows<'_>, batch: &Batch) -> Result<(), redb::Error> {
    let mut folders: BTreeMap<Vec<u8>, (&str, BTreeMap<String, &RootTrace>)> = BTreeMap::new();
    'roots: for (node, trace) in &batch.roots {
        for (key, digest) in effects_of(trace) {
            // Another process may have seen it otherwise meanwhile.
            let known = effect(effects, key)?;
            if known.is_none_or(|known| effect_digest(&known.value) != *digest) {
                continue 'roots;
            }
        }
        let (folder, name) = split(&node.unit.path);
        let key = roots_key(node.query, folder);
        let (_, new) = folders.entry(key).or_insert_with(|| (folder, BTreeMap::new()));
        new.insert(root_name(name, &node.unit.part).into_owned(), trace);
    }
    merge(roots, folders.into_iter(), |known, (folder, new)| {
        let known = known.and_then(RootsRow::decode).map(|row| row.traces(folder));
        let known = known.unwrap_or_default();
        let mut all: BTreeMap<&String, &RootTrace> = known.iter().collect();
        all.extend(new.iter().map(|(name, trace)| (name, *trace)));
        encode_roots(folder, all)
    })
}

/// The folder of a row of roots, and its roots.
pub(super) fn decode_roots(key: &[u8], row: &[u8]) -> Option<(String, FolderRoots)> {
    let (_, folder) = std::str::from_utf8(key).ok()?.split_once('\0')?;
    let row = RootsRow::decode(open_seal(key, row)?)?;
    Some((folder.to_owned(), row.traces(folder)))
}

pub(super) fn effects_of(trace: &RootTrace) -> impl Iterator<Item = (&Digest, &Digest)> {
    trace.leaves.iter().filter_map(|(leaf, digest)| match leaf {
        Leaf::Effect(key) => Some((key, digest)),
        _ => None,
    })
}
