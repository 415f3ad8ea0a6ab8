//! Listing all containers: one listing runs, at most one waits, never two within the interval, again if it fails.

use std::collections::HashMap;
use std::time::Duration;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use bollard::Docker;
use bollard::query_parameters::{ListContainersOptionsBuilder, TopOptionsBuilder};
use rustc_hash::FxHashSet;
use tokio::time::{Instant, timeout};
use whalewatch_core::{Container, Runtime, Status};

use super::{DockerActor, answers, pause};
use crate::cgroups::Hierarchy;
use crate::proc::{Proc, Seen};
use crate::request::News;
use crate::runtimes::Tell;

/// Processes told in one message, so that no message takes long.
const CHUNK: usize = 256;
/// How often the daemon itself is asked for processes in one listing: it starts a `ps` for each.
const MOST_TOPS: usize = 64;

/// How far the listing is.
pub(super) struct Refresh {
    interval: Duration,
    /// One runs, or is about to.
    busy: bool,
    /// Another is wanted, with or without processes.
    waiting: Option<bool>,
    /// When the last one began.
    began: Option<Instant>,
    failures: u32,
    /// Whether processes were listed once.
    processes_told: bool,
}

impl Refresh {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            busy: false,
            waiting: None,
            began: None,
            failures: 0,
            processes_told: false,
        }
    }

    /// Wants one more; says after what pause it is to begin, unless it has to wait for another.
    fn want(&mut self, processes: bool, there: bool) -> Option<Duration> {
        self.waiting = Some(self.waiting.unwrap_or(false) || processes);
        if self.busy || !there {
            return None;
        }
        self.busy = true;
        let since = self.began.as_ref().map_or(self.interval, Instant::elapsed);
        Some(self.interval.saturating_sub(since).max(self.retry_pause()))
    }

    fn retry_pause(&self) -> Duration {
        if self.failures == 0 { Duration::ZERO } else { pause(self.failures - 1) }
    }
}

impl DockerActor {
    /// A listing is wanted.
    pub(super) fn refresh(&mut self, processes: bool, ctx: &mut Context<Self>) {
        if let Some(after) = self.refresh.want(processes, self.docker.is_some()) {
            ctx.run_later(after, DockerActor::list);
        }
    }

    /// The daemon is there, perhaps another than before: lists at once.
    pub(super) fn refresh_anew(&mut self, ctx: &mut Context<Self>) {
        self.refresh.began = None;
        self.refresh.failures = 0;
        let processes = !self.refresh.processes_told;
        self.refresh(processes, ctx);
    }

    fn list(&mut self, ctx: &mut Context<Self>) {
        let Some(docker) = self.docker.clone() else {
            self.refresh.busy = false; // begins anew when the daemon is back
            return;
        };
        let processes = self.refresh.waiting.take().unwrap_or(false);
        self.refresh.began = Some(Instant::now());
        let listing =
            list(docker, self.runtime, self.settings.timeout, processes, self.tell.clone());
        let done = move |done: Result<(), String>, this: &mut Self, ctx: &mut Context<Self>| {
            this.listed(done, processes, ctx);
        };
        ctx.spawn(listing.into_actor(self).map(done));
    }

    fn listed(&mut self, done: Result<(), String>, processes: bool, ctx: &mut Context<Self>) {
        self.refresh.busy = false;
        match done {
            Ok(()) => {
                self.refresh.failures = 0;
                self.refresh.processes_told |= processes;
            }
            Err(reason) => {
                tracing::debug!(reason, "containers could not be listed");
                self.refresh.failures += 1;
                self.refresh.waiting = Some(processes | self.refresh.waiting.unwrap_or(false));
            }
        }
        if let Some(processes) = self.refresh.waiting {
            self.refresh(processes, ctx);
        }
    }
}

/// Lists the containers that run or are about to, then, if asked, the processes of each.
async fn list(
    docker: Docker,
    runtime: Runtime,
    limit: Duration,
    processes: bool,
    tell: Tell,
) -> Result<(), String> {
    let there = HashMap::from([("status", vec!["created", "running", "paused", "restarting"])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&there).build();
    let answer = timeout(limit, docker.list_containers(Some(options))).await;
    let answer = answer.map_err(|_| format!("no answer within {limit:?}"))?;
    let listed = answer.map_err(|e| e.to_string())?;
    let listed: Vec<Container> =
        listed.into_iter().filter_map(|c| answers::listed(c, runtime)).collect();
    let id = |c: &Container| c.id.to_string();
    let running: Vec<String> =
        listed.iter().filter(|c| c.status != Status::Created).map(id).collect();
    let all = listed.iter().map(id).collect();
    for container in listed {
        tell(News::Container(Box::new(container)));
    }
    tell(News::Refreshed { running: all });
    if processes {
        list_processes(&docker, limit, running, &tell).await;
    }
    Ok(())
}

/// The processes in each container's cgroups; the daemon is asked where those cannot be read.
async fn list_processes(docker: &Docker, limit: Duration, running: Vec<String>, tell: &Tell) {
    let wanted: FxHashSet<String> = running.into_iter().collect();
    // Thousands of small files: on another thread, so that events of the daemon go on being read.
    let read = tokio::task::spawn_blocking({
        let tell = tell.clone();
        move || read_cgroups(wanted, &tell)
    });
    let Ok(unread) = read.await else { return };
    for id in unread.into_iter().take(MOST_TOPS) {
        let options = TopOptionsBuilder::default().ps_args("-eo pid").build();
        let top = timeout(limit, docker.top_processes(&id, Some(options))).await;
        let Ok(Ok(top)) = top else { continue };
        let rows = top.processes.unwrap_or_default();
        let pids: Vec<u32> =
            rows.iter().filter_map(|row| row.first()?.trim().parse().ok()).collect();
        tell_processes(&id, &pids, tell);
    }
}

/// Tells what can be read; gives the containers of which nothing could.
fn read_cgroups(mut wanted: FxHashSet<String>, tell: &Tell) -> Vec<String> {
    for hierarchy in [Hierarchy::version_2(), Hierarchy::version_1()].into_iter().flatten() {
        if wanted.is_empty() {
            break;
        }
        for (id, pids) in hierarchy.processes(|id| wanted.contains(id)) {
            if !pids.is_empty() {
                tell_processes(&id, &pids, tell);
                wanted.remove(&id);
            }
        }
    }
    wanted.into_iter().collect()
}

fn tell_processes(id: &str, pids: &[u32], tell: &Tell) {
    let proc = Proc::default();
    for chunk in pids.chunks(CHUNK) {
        let seen: Vec<Seen> = chunk.iter().filter_map(|&pid| proc.see(pid)).collect();
        tell(News::Processes { id: id.to_owned(), seen });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn however_many_are_wanted_one_runs_and_one_waits() {
        let mut refresh = Refresh::new(S);
        assert_eq!(refresh.want(false, true), Some(Duration::ZERO));
        refresh.waiting = None; // it has begun
        for _ in 0..1000 {
            assert_eq!(refresh.want(false, true), None);
        }
        assert_eq!(refresh.want(true, true), None);
        assert_eq!(refresh.waiting, Some(true)); // what waits does all that was wanted
    }

    #[tokio::test(start_paused = true)]
    async fn two_are_never_closer_than_the_interval_and_failures_grow_the_pause() {
        let mut refresh = Refresh::new(S);
        refresh.began = Some(Instant::now());
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(refresh.want(false, true), Some(Duration::from_millis(600)));
        refresh.busy = false;
        refresh.failures = 4;
        assert_eq!(refresh.want(false, true), Some(Duration::from_secs(2)));
        refresh.busy = false;
        refresh.failures = 40;
        assert_eq!(refresh.want(false, true), Some(Duration::from_secs(5)));
    }

    #[test]
    fn without_a_daemon_it_waits_for_one() {
        let mut refresh = Refresh::new(S);
        assert_eq!(refresh.want(true, false), None);
        assert!(!refresh.busy);
        assert_eq!(refresh.waiting, Some(true));
    }
}
