//! `cargo xtask mutate`: plants defects into the engine and its SQL, one at a time, and expects that they are caught.
//!
//! ```text
//!   tests/defects/*.patch ─▶ copy of the checkout under target/mutate ─▶ each: plant, build, its judge must fail, mend
//! ```
//!
//! Invariants: 1. The checkout is never written. 2. A patch that does not apply is a failure; so is one of a function that a later migration
//! replaces, a defect that does not build, and a judge
//! that fails without it. 3. Who catches a defect is said with it: a judge that no longer does is found out.

mod defect;
mod in_force;
mod judge;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{args::Args, checkout_copy::CheckoutCopy};
use defect::Defect;
use judge::Verdict;

pub(crate) const USAGE: &str = "\
cargo xtask mutate            plants each known defect into a copy of the engine and its SQL; simulator, contract suite, races or lost tails must catch it
cargo xtask mutate --only W   those whose words have W in them
cargo xtask mutate --list     what they are, and who has to catch them";

pub(crate) fn command(mut args: Args) -> Result<()> {
    let (list, only) = (args.flag("--list"), args.value("--only")?);
    args.finish()?;
    let mut chosen = defect::all()?;
    chosen.retain(|defect| only.as_ref().is_none_or(|word| defect.says.contains(word.as_str())));
    if chosen.is_empty() {
        bail!("no defect has {:?} in its words; --list shows them", only.unwrap_or_default());
    }
    if list {
        chosen.iter().for_each(|defect| println!("{:<12} {}", defect.judge.word(), defect.says));
        return Ok(());
    }
    let copy = CheckoutCopy::up_to_date("mutate")?;
    nothing_is_found_in(&copy, &chosen)?;
    let begun = Instant::now();
    let mut escaped = vec![];
    for defect in &chosen {
        match defect.planted_in(&copy)? {
            Verdict::Caught(said) => println!("caught   {:<10} {}\n                    {said}", defect.judge.word(), defect.says),
            Verdict::Escaped => {
                println!("ESCAPED  {:<10} {}", defect.judge.word(), defect.says);
                escaped.push(defect.says.as_str());
            }
        }
    }
    println!("{} defects planted in {} s, {} caught", chosen.len(), begun.elapsed().as_secs(), chosen.len() - escaped.len());
    if escaped.is_empty() { Ok(()) } else { bail!("nobody noticed: {}", escaped.join("; ")) }
}

/// Fails if one of their judges finds something in the code as it is.
fn nothing_is_found_in(copy: &CheckoutCopy, chosen: &[Defect]) -> Result<()> {
    let mut judges: Vec<_> = chosen.iter().map(|defect| defect.judge).collect();
    judges.sort_unstable();
    judges.dedup();
    for judge in judges {
        println!("nothing planted: {}", judge.word());
        if let Verdict::Caught(said) = judge.of(copy)? {
            bail!("{} finds something although nothing is planted: {said}", judge.word());
        }
    }
    Ok(())
}
