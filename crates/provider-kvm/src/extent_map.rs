//! The map of what differs from the source's last known state, as it is kept: written at commit, read on the way home.

use std::path::Path;

use provider::ProviderError;
use recovery::{Generation, PointId};
use serde::{Deserialize, Serialize};

use crate::{
    blocks::{BLOCK_BYTES, Blocks},
    durable::failed,
};

const VERSION: u32 = 2;

/// A kept map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredMap {
    version: u32,
    generation: Generation,
    point: PointId,
    block_bytes: u64,
    /// The old source's mark of the state from which everything listed differs; unknown in maps of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mark: Option<String>,
    pub(crate) disks: Blocks,
}

impl StoredMap {
    pub(crate) fn new(generation: Generation, point: PointId, mark: Option<String>, disks: Blocks) -> Self {
        Self { version: VERSION, generation, point, block_bytes: BLOCK_BYTES, mark, disks }
    }

    /// Reads a map; `None` if it is of a kind that this agent does not know.
    pub(crate) fn read(path: &Path, content: &[u8]) -> Result<Option<Self>, ProviderError> {
        let map: Self = serde_json::from_slice(content).map_err(|e| failed("read", path)(e.into()))?;
        Ok((map.version <= VERSION && map.block_bytes == BLOCK_BYTES).then_some(map))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;
    use crate::blocks::Runs;

    #[test]
    fn a_map_without_a_mark_is_still_read() {
        let old = br#"{"version":1,"generation":"e1-g2","point":3,"block_bytes":65536,"disks":{"vda":[[1,2]]}}"#;
        let map = StoredMap::read(Path::new("x"), old).unwrap().unwrap();
        assert_eq!((map.mark, &map.disks["vda"]), (None, &Runs::touched([(BLOCK_BYTES, 2 * BLOCK_BYTES)])));
    }

    #[test]
    fn a_map_of_a_later_version_is_not_believed() {
        let generation = Generation { era: 1, grant_epoch: 2 };
        let map = StoredMap { version: VERSION + 1, ..StoredMap::new(generation, PointId(1), None, Blocks::new()) };
        assert_eq!(StoredMap::read(Path::new("x"), &serde_json::to_vec(&map).unwrap()).unwrap(), None);
    }
}
