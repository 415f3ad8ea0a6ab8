//! Keeps the programs' map of watched cgroups up to date with the directory.

use aya::maps::{HashMap, MapData};
use whalewatch_core::{Directory, Resident};

use crate::options::ScopeOptions;

/// Makes the programs watch the cgroups that the scope selects, from now on.
pub(crate) fn follow(
    scope: &ScopeOptions,
    mut map: HashMap<MapData, u64, u32>,
    directory: &Directory,
) {
    let (patterns, host) = (scope.patterns(), scope.host());
    let mut has_warned = false;
    directory.subscribe(move |cgroup, resident| {
        let result = match resident {
            None => {
                // A full map may have refused the cgroup before.
                map.remove(&cgroup).ok();
                Ok(())
            }
            Some(Resident::Host) => map.insert(cgroup, u32::from(host), 0),
            Some(Resident::Container(container)) => {
                map.insert(cgroup, u32::from(patterns.matches(container)), 0)
            }
        };
        if let Err(error) = result
            && !has_warned
        {
            has_warned = true;
            tracing::warn!(
                %error, cgroup,
                "cannot add a cgroup to the scope; it is watched as its parent is",
            );
        }
    });
}
