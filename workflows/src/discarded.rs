//! What is lost when a failed-over machine is discarded: measured as well as it can be, and recorded before it is lost.

use std::time::Duration;

use recovery::{Fact, Generation};
use sdk::Failure;

use crate::{declared::MeasureWrites, site_queue, tracked::Tracked};

/// A machine that can't be asked, since it died, keeps nobody from discarding it.
const LIMIT: Duration = Duration::from_secs(60);

/// Records how much the machine of that generation has written. Not knowing is recorded too.
pub(crate) async fn measure(item: &mut Tracked, generation: Generation) -> Result<(), Failure> {
    let site = item.record()?.target_site().clone();
    let asked = item.ctx.call(site_queue(&site), &MeasureWrites { item: item.name.clone(), generation });
    let blocks = asked.total_timeout(LIMIT).await.ok().map(|written| written.blocks);
    item.note(Fact::WritesDiscarded { site, blocks })
}
