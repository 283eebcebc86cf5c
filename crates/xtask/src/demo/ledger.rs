//! The guest's ledger, asked over HTTP from within a site.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use super::clock::Moment;
use crate::lab::{Lab, join, wait};

const PORT: u16 = 8080;

/// A guest as seen from one site.
#[derive(Clone)]
pub(crate) struct Ledger {
    netns: String,
    address: SocketAddr,
}

/// What the guest says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    /// Number of the newest record that is safely on its disk.
    pub(crate) records: u64,
    /// How many of them this boot found on its disk.
    pub(crate) found: u64,
    pub(crate) boots: u64,
    /// The guest's clock minus ours.
    pub(crate) clock_ahead_ms: i64,
}

/// What a reading of the whole ledger found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) records: u64,
    pub(crate) bad: u64,
}

impl Ledger {
    pub(crate) fn at(lab: &Lab, site: &str, ip: &str) -> Result<Self> {
        let address = SocketAddr::new(ip.parse().context("the guest's address")?, PORT);
        Ok(Self { netns: lab.site(site)?.netns.clone(), address })
    }

    pub(crate) fn status(&self) -> Result<Status> {
        let before = Moment::now();
        let answer = self.get("/status")?;
        let ours = Moment((before.0 + Moment::now().0) / 2);
        let theirs = answer["wall_ms"].as_i64().context("no clock in the status")?;
        let clock_ahead_ms = theirs - ours.0;
        let (records, found) = (number(&answer, "seq")?, number(&answer, "found")?);
        Ok(Status { records, found, boots: number(&answer, "boots")?, clock_ahead_ms })
    }

    pub(crate) fn verify(&self) -> Result<Verified> {
        let answer = self.get("/verify")?;
        Ok(Verified { records: number(&answer, "records")?, bad: number(&answer, "bad")? })
    }

    /// Appends records; returns the number of the last, which is on disk.
    pub(crate) fn append(&self, count: u32) -> Result<u64> {
        number(&self.get(&format!("/append?n={count}"))?, "seq")
    }

    /// Writes reproducible noise, so that there is something to replicate.
    pub(crate) fn write(&self, file: &str, mib: u32, seed: u32) -> Result<()> {
        self.get(&format!("/write?file={file}&mb={mib}&seed={seed}")).map(drop)
    }

    /// When records were written, by the guest's clock, from this one on.
    pub(crate) fn times(&self, first: u64) -> Result<BTreeMap<u64, Moment>> {
        let answer = self.get(&format!("/times?from={first}"))?;
        let times = answer["wall_ms"].as_array().with_context(|| format!("no times in {answer}"))?;
        Ok((first..).zip(times.iter().filter_map(|time| time.as_i64().map(Moment))).collect())
    }

    /// Waits until the guest answers here, and returns when it did.
    pub(crate) fn first_answer(&self, limit: Duration) -> Result<Moment> {
        wait::until("an answer of the guest", limit, || self.status())?;
        Ok(Moment::now())
    }

    fn get(&self, path: &str) -> Result<Value> {
        let body = join::http_get(&self.netns, self.address, path)?;
        serde_json::from_str(&body).map_err(|error| anyhow!("the guest answered {body:?}: {error}"))
    }
}

fn number(answer: &Value, key: &str) -> Result<u64> {
    answer[key].as_u64().with_context(|| format!("no {key} in {answer}"))
}
