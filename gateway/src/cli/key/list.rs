//! `weir key list`: which keys there are, by the beginnings of their hashes. Must never show more of a hash: who has it
//! whole can try keys against it.

use anyhow::Result;

use super::{day, now, shown};
use crate::config::Settings;

pub(super) fn command(settings: &Settings) -> Result<()> {
    print!("{}", text(settings, now()));
    Ok(())
}

fn text(settings: &Settings, now: u64) -> String {
    let mut lines = Vec::new();
    for tenant in &settings.tenants.tenants {
        for (hash, ends) in &tenant.keys {
            let state = match ends {
                None => "good for ever".to_owned(),
                // The first second in which it is good no more belongs to the day after.
                Some(ends) if *ends > now => format!("good until {} (UTC)", day(ends - 1)),
                Some(ends) => format!("ended on {}", day(ends - 1)),
            };
            lines.push(format!("{:<20} {}  {state}\n", tenant.name, shown(hash)));
        }
    }
    match lines.is_empty() {
        true => "no tenants: nobody is asked for a key\n".to_owned(),
        false => lines.concat(),
    }
}
