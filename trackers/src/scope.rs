//! Keeps the kernel's map of watched cgroups as the directory has it.

use aya::maps::{HashMap, MapData};
use whalewatch_core::{Directory, Resident};

use crate::options::ScopeOptions;

/// Has the programs watch the cgroups that the scope means, from now on.
pub(crate) fn follow(
    scope: &ScopeOptions,
    mut map: HashMap<MapData, u64, u32>,
    directory: &Directory,
) {
    let (patterns, host) = (scope.patterns(), scope.host());
    let mut told = false;
    directory.subscribe(move |cgroup, resident| {
        let result = match resident {
            None => {
                // It may never have been there: a full map has refused it.
                map.remove(&cgroup).ok();
                Ok(())
            }
            Some(Resident::Host) => map.insert(cgroup, u32::from(host), 0),
            Some(Resident::Container(container)) => {
                map.insert(cgroup, u32::from(patterns.matches(container)), 0)
            }
        };
        if let Err(error) = result
            && !told
        {
            told = true;
            tracing::warn!(%error, cgroup, "the scope cannot be kept: what is watched is as for cgroups that are not known");
        }
    });
}
