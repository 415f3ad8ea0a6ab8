//! Listing all containers.

use std::collections::HashMap;
use std::time::Duration;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use bollard::Docker;
use bollard::query_parameters::{ListContainersOptionsBuilder, TopOptionsBuilder};
use tokio::time::timeout;
use whalewatch_core::{Container, Runtime, Status};

use super::{DockerActor, answers};
use crate::protocol::Report;
use crate::runtimes::Reporter;
use crate::runtimes::processes::{report_cgroup_processes, report_processes};

/// How often the daemon itself is asked for processes in one listing: it runs `ps` for each.
const MAX_TOPS: usize = 64;

impl DockerActor {
    /// Requests a listing.
    pub(super) fn refresh(&mut self, processes: bool, ctx: &mut Context<Self>) {
        if let Some(after) = self.listings.want(processes, self.docker.is_some()) {
            ctx.run_later(after, DockerActor::list);
        }
    }

    /// Lists at once, because the daemon is there again, perhaps another one.
    pub(super) fn refresh_at_once(&mut self, ctx: &mut Context<Self>) {
        let processes = self.listings.restart();
        self.refresh(processes, ctx);
    }

    fn list(&mut self, ctx: &mut Context<Self>) {
        let Some(docker) = self.docker.clone() else {
            return self.listings.put_off();
        };
        let processes = self.listings.begin();
        let listing =
            list(docker, self.runtime, self.settings.timeout, processes, self.report.clone());
        let done = move |done: Result<(), String>, this: &mut Self, ctx: &mut Context<Self>| {
            this.listed(&done, processes, ctx);
        };
        ctx.spawn(listing.into_actor(self).map(done));
    }

    fn listed(&mut self, done: &Result<(), String>, processes: bool, ctx: &mut Context<Self>) {
        if let Err(reason) = done {
            tracing::debug!(reason, "cannot list containers");
        }
        if let Some(processes) = self.listings.ended(done.is_ok(), processes) {
            self.refresh(processes, ctx);
        }
    }
}

/// Lists the containers that are running or may be soon, then, if wanted, the processes of each.
async fn list(
    docker: Docker,
    runtime: Runtime,
    limit: Duration,
    processes: bool,
    report: Reporter,
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
        report(Report::Container(Box::new(container)));
    }
    report(Report::Refreshed { running: all });
    if processes {
        list_processes(&docker, limit, running, &report).await;
    }
    Ok(())
}

/// Reports the processes in each container's cgroups, or from the daemon where those cannot be
/// read.
async fn list_processes(docker: &Docker, limit: Duration, running: Vec<String>, report: &Reporter) {
    let unread = report_cgroup_processes(running, report).await;
    for id in unread.into_iter().take(MAX_TOPS) {
        let options = TopOptionsBuilder::default().ps_args("-eo pid").build();
        let top = timeout(limit, docker.top_processes(&id, Some(options))).await;
        let Ok(Ok(top)) = top else { continue };
        let rows = top.processes.unwrap_or_default();
        let pids: Vec<u32> =
            rows.iter().filter_map(|row| row.first()?.trim().parse().ok()).collect();
        report_processes(&id, &pids, report);
    }
}
