//! The map of what differs from the source's state at its last point.

use std::collections::BTreeSet;

use recovery::{Generation, ItemName};
use sha2::{Digest, Sha256};

use super::{
    BLOCK_BYTES,
    machine::{Address, Mark},
    state::{KeptMap, SiteState},
};
use crate::{ExtentMap, ProviderError};

/// Blocks in which newer points differ from the recovered one, and those written since its machine was started; every block if
/// the record of these is lost.
pub(super) fn differing(site: &mut SiteState, item: &ItemName, generation: Generation) -> Result<KeptMap, ProviderError> {
    let not_recovered = || ProviderError::NotRecovered { item: item.clone(), generation };
    let r = site.recovered(item, generation)?;
    r.started.ok_or_else(not_recovered)?;
    let chosen = r.point;
    let machine = site.made(item, generation).ok_or_else(not_recovered)?;
    let written = machine.image.marks.get(&Mark::Failover(generation));
    let mut blocks: BTreeSet<Address> = written.cloned().unwrap_or_else(|| machine.addresses());
    let points = &site.replica(item)?.points;
    for pair in points.windows(2).filter(|pair| pair[1].point.id > chosen) {
        let addresses = pair[0].blocks.keys().chain(pair[1].blocks.keys());
        blocks.extend(addresses.filter(|a| pair[0].blocks.get(*a) != pair[1].blocks.get(*a)).cloned());
    }
    let since = points.last().and_then(|newest| newest.mark);
    let mut hasher = Sha256::new();
    for (target, block) in &blocks {
        hasher.update(format!("{target} {block}\n"));
    }
    let count = blocks.len() as u64;
    let map = ExtentMap { hash: hex::encode(hasher.finalize()), blocks: count, bytes: count * BLOCK_BYTES };
    Ok(KeptMap { map, blocks, since })
}
