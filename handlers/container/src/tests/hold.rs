//! Over random scripts: no event is lost or duplicated, held events keep their order within a
//! container, and the invariants hold after every call.

use proptest::prelude::*;

use crate::options::ContainerOptions;
use crate::protocol::Report;
use crate::tests::rig::{Rig, act, id, made, ms, options, process, removed};

/// Container `n` has cgroup `n`; cgroups from 100 on have no known path.
#[derive(Clone, Debug)]
enum Step {
    Batch { chain: u32, cgroups: Vec<u64> },
    Made(u32),
    Removed(u32),
    Named(u32),
    NotKnown(u32),
    Time(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let cgroup = prop_oneof![4 => 1..5_u64, 1 => 100..102_u64];
    let container = 1..5_u32;
    prop_oneof![
        6 => (0..2_u32, prop::collection::vec(cgroup, 0..8))
            .prop_map(|(chain, cgroups)| Step::Batch { chain, cgroups }),
        2 => container.clone().prop_map(Step::Made),
        1 => container.clone().prop_map(Step::Removed),
        2 => container.clone().prop_map(Step::Named),
        1 => container.prop_map(Step::NotKnown),
        3 => (0..80_u64).prop_map(Step::Time),
    ]
}

fn run(rig: &mut Rig, step: Step) -> Vec<(u32, u64)> {
    match step {
        Step::Batch { chain, cgroups } => {
            let arrived: Vec<_> = cgroups.iter().map(|&cgroup| (chain, cgroup)).collect();
            let events = cgroups.into_iter().map(|c| act(process(60, 5, c))).collect();
            rig.handle(chain, events);
            return arrived;
        }
        Step::Made(n) => rig.observe(vec![made(n.into(), n)]),
        Step::Removed(n) => rig.observe(vec![removed(n.into())]),
        Step::Named(n) => rig.report_name(n, "web"),
        Step::NotKnown(n) => rig.report(Report::NotKnown { id: id(n).into() }),
        Step::Time(ms) => rig.advance(ms),
    }
    Vec::new()
}

proptest! {
    #[test]
    fn held_events_keep_their_order_and_none_is_lost(
        steps in prop::collection::vec(step(), 1..60),
        max_held in 0..30_u32,
        hold in prop_oneof![Just(0), Just(100)],
    ) {
        let options = ContainerOptions { max_held, hold: ms(hold), lifecycle: true, ..options() };
        let mut rig = Rig::with(options, true);
        let mut arrived = 0;
        // The numbers of the events by chain and cgroup, in order of arrival.
        let mut sent: std::collections::BTreeMap<(u32, u64), Vec<u64>> =
            std::collections::BTreeMap::default();
        for step in steps {
            let before = rig.last_number();
            let batch = run(&mut rig, step);
            for (i, key) in batch.into_iter().enumerate() {
                sent.entry(key).or_default().push(before + 1 + i as u64);
                arrived += 1;
            }
            prop_assert!(rig.manager().sizes().3 <= max_held as usize);
            let own = rig.out.iter().filter(|o| o.kind != "scripted").count();
            let held_own = rig.manager().held_own();
            let out = rig.out.len() - own;
            let held = rig.manager().sizes().3 - held_own;
            prop_assert_eq!(arrived, out + held, "in = out + held");
        }
        rig.end(0);
        rig.end(1);
        prop_assert_eq!(rig.manager().sizes().3, 0);
        let out = rig.take();
        let own = out.iter().filter(|o| o.kind != "scripted").count() as u64;
        let added = rig.counters.added.load(std::sync::atomic::Ordering::Relaxed);
        prop_assert_eq!(added, own, "each event of the manager's own is counted as added");
        for ((chain, cgroup), numbers) in sent {
            let got: Vec<u64> = out
                .iter()
                .filter(|o| o.kind == "scripted" && o.chain == chain && numbers.contains(&o.number))
                .map(|o| o.number)
                .collect();
            prop_assert_eq!(got, numbers, "order in cgroup {} of chain {}", cgroup, chain);
        }
    }
}
