//! The lab's networks: one namespace per site, one for the wide network between them, and the cut.

use anyhow::Result;

use super::record::{BRIDGE, BRIDGE_CIDR, Lab, Site};
use crate::sh;

/// The wide network's bridge and each site's own end of its cable, inside their namespaces.
const WAN_BRIDGE: &str = "brwan";
const CABLE: &str = "wan0";

/// Makes all namespaces, joined and healed.
pub(crate) fn build(lab: &Lab) -> Result<()> {
    let wan = &lab.wan.netns;
    ip(&format!("netns add {wan}"))?;
    ip(&format!("-n {wan} link set lo up"))?;
    ip(&format!("-n {wan} link add {WAN_BRIDGE} type bridge"))?;
    ip(&format!("-n {wan} addr add {}/24 dev {WAN_BRIDGE}", lab.wan.ip))?;
    ip(&format!("-n {wan} link set {WAN_BRIDGE} up"))?;
    for site in &lab.sites {
        join(wan, site)?;
    }
    Ok(())
}

fn join(wan: &str, Site { name, netns, ip: address, .. }: &Site) -> Result<()> {
    ip(&format!("netns add {netns}"))?;
    ip(&format!("-n {netns} link set lo up"))?;
    ip(&format!("-n {netns} link add {CABLE} type veth peer name {name} netns {wan}"))?;
    ip(&format!("-n {netns} addr add {address}/24 dev {CABLE}"))?;
    ip(&format!("-n {netns} link set {CABLE} up"))?;
    ip(&format!("-n {wan} link set {name} master {WAN_BRIDGE}"))?;
    ip(&format!("-n {wan} link set {name} up"))?;
    ip(&format!("-n {netns} link add {BRIDGE} type bridge"))?;
    ip(&format!("-n {netns} addr add {BRIDGE_CIDR} dev {BRIDGE}"))?;
    ip(&format!("-n {netns} link set {BRIDGE} up"))
}

/// Pulls a site's cable: nothing gets in or out any more. The site itself goes on.
pub(crate) fn cut(lab: &Lab, site: &Site) -> Result<()> {
    ip(&format!("-n {} link set {} down", lab.wan.netns, site.name))
}

/// Plugs the cable in again.
pub(crate) fn heal(lab: &Lab, site: &Site) -> Result<()> {
    ip(&format!("-n {} link set {} up", lab.wan.netns, site.name))
}

fn ip(line: &str) -> Result<()> {
    sh::run("ip", &line.split(' ').collect::<Vec<_>>())
}
