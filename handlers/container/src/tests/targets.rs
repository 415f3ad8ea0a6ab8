//! Tests of what the manager says besides who did it: to whom it was done, what a cgroup is, and
//! who lives where.

use std::sync::mpsc::{Receiver, channel};

use whalewatch_core::{Resident, State};

use crate::ContainerOptions;
use crate::request::News;
use crate::tests::rig::{Rig, act_on, id, made, made_host, of_cgroup, options, process, removed};

#[test]
fn both_containers_of_an_event_are_told_and_the_host_is_told_as_such() {
    let mut rig = Rig::new();
    rig.observe(vec![made(7, 1), made(8, 2), made_host(9)]);
    rig.hear_name(1, "web");
    rig.hear_name(2, "db");
    rig.handle(0, vec![act_on(process(10, 1, 7), process(20, 1, 8))]);
    rig.handle(0, vec![act_on(process(10, 1, 8), process(20, 1, 9))]);
    let told: Vec<_> = rig.take().into_iter().map(|out| (out.name, out.target)).collect();
    let text = |text: &str| Some(text.to_owned());
    let first = (text("web"), (State::Resolved, text("db")));
    assert_eq!(told, [first, (text("db"), (State::Host, None))]);
}

#[test]
fn the_target_s_name_is_told_if_it_came_while_the_event_waited_for_its_own() {
    let mut rig = Rig::new();
    rig.observe(vec![made(7, 1), made(8, 2)]);
    rig.handle(0, vec![act_on(process(10, 1, 7), process(20, 1, 8))]);
    assert_eq!(rig.take(), [], "it waits");
    rig.hear_name(2, "db");
    rig.hear_name(1, "web");
    let told: Vec<_> = rig.take().into_iter().map(|out| (out.state, out.target)).collect();
    assert_eq!(told, [(State::Resolved, (State::Resolved, Some("db".to_owned())))]);
}

#[test]
fn an_event_of_no_process_is_its_cgroup_s_and_waits_for_the_name_as_others_do() {
    let mut rig = Rig::new();
    rig.observe(vec![made(7, 1), made_host(9)]);
    rig.handle(0, vec![of_cgroup(7), of_cgroup(9)]);
    assert_eq!(rig.told(), ["host"]);
    rig.hear_name(1, "web");
    assert_eq!(rig.told(), ["resolved web"]);
}

/// What the directory was told, in short: the cgroup, and the container's name or a word.
fn listen(rig: &Rig) -> Receiver<(u64, String)> {
    let (tell, heard) = channel();
    rig.directory.subscribe(move |cgroup, resident| {
        let word = match resident {
            None => "gone".to_owned(),
            Some(Resident::Host) => "host".to_owned(),
            Some(Resident::Container(container)) => {
                container.name.as_ref().map_or("unnamed".to_owned(), ToString::to_string)
            }
        };
        tell.send((cgroup, word)).expect("the test listens");
    });
    heard
}

#[track_caller]
fn heard(from: &Receiver<(u64, String)>, expected: &[(u64, &str)]) {
    let heard: Vec<_> = from.try_iter().collect();
    let heard: Vec<_> = heard.iter().map(|(cgroup, word)| (*cgroup, word.as_str())).collect();
    assert_eq!(heard, expected);
}

#[test]
fn the_directory_hears_who_lives_where_by_every_name_until_the_cgroup_goes() {
    let mut rig = Rig::new();
    let directory = listen(&rig);
    rig.observe(vec![made(7, 1), made_host(9)]);
    heard(&directory, &[(7, "unnamed"), (9, "host")]);
    rig.hear_name(1, "web");
    heard(&directory, &[(7, "web")]);
    rig.hear(News::Renamed { id: id(1), name: "front".into() });
    heard(&directory, &[(7, "front")]);
    rig.observe(vec![removed(7), removed(9)]);
    heard(&directory, &[(7, "gone"), (9, "gone")]);
}

#[test]
fn the_directory_hears_of_no_more_cgroups_than_are_remembered() {
    let mut rig = Rig::with(ContainerOptions { max_cgroups: 64, ..options() }, true);
    let directory = listen(&rig);
    rig.observe((1..=100).map(made_host).collect());
    assert_eq!(directory.try_iter().count(), 64);
}
