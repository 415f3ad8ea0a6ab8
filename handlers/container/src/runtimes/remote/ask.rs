//! Inspecting single containers, and listing all, each with a time limit.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use tokio::time::timeout;
use tonic::Status;
use whalewatch_core::{Container, Status as State};

use super::grpc::in_time;
use super::{Listed, Remote, RemoteActor};
use crate::protocol::Report;
use crate::runtimes::inspections::DENIALS;
use crate::runtimes::processes::{report_cgroup_processes, report_processes};
use crate::runtimes::{Reporter, pause};

/// How often the runtime itself is asked for processes in one listing.
const MAX_PROCESS_LISTS: usize = 64;

/// Time limit of a listing, in limits of one answer: it needs several answers.
const LIST_LIMIT: u32 = 16;

type Answer = Result<Option<Container>, Status>;

impl<R: Remote> RemoteActor<R> {
    pub(super) fn inspect(&mut self, id: &Arc<str>, ctx: &mut Context<Self>) {
        if self.inspections.want(id) {
            self.pump(ctx);
        }
    }

    /// Starts as many questions as allowed.
    pub(super) fn pump(&mut self, ctx: &mut Context<Self>) {
        let Some(remote) = self.remote.clone() else { return };
        while let Some(id) = self.inspections.next() {
            let (remote, asked) = (remote.clone(), Arc::clone(&id));
            let ask = in_time(self.settings.timeout, async move { remote.inspect(&asked).await });
            let done = |answer, this: &mut Self, ctx: &mut Context<Self>| {
                this.inspected(id, answer, ctx);
            };
            ctx.spawn(ask.into_actor(self).map(done));
        }
    }

    fn inspected(&mut self, id: Arc<str>, answer: Answer, ctx: &mut Context<Self>) {
        self.inspections.answered();
        match answer {
            Ok(Some(container)) => {
                if self.inspections.settle(&id) {
                    (self.report)(Report::Container(Box::new(container)));
                }
            }
            Ok(None) => match self.inspections.failed(&id) {
                Some(denials) if denials >= DENIALS => {
                    self.inspections.settle(&id);
                    (self.report)(Report::NotKnown { id });
                }
                // A container that is being made appears within milliseconds.
                Some(denials) => Self::again(id, Duration::from_millis(5 << (2 * denials)), ctx),
                None => {}
            },
            Err(status) => {
                tracing::debug!(%id, %status, "cannot inspect a container");
                if let Some(failures) = self.inspections.failed(&id) {
                    Self::again(id, pause(failures), ctx);
                }
            }
        }
        self.pump(ctx);
    }

    /// Queues a container again after a pause, if it is still wanted then.
    fn again(id: Arc<str>, after: Duration, ctx: &mut Context<Self>) {
        ctx.run_later(after, move |this, ctx| {
            this.inspections.again(id);
            this.pump(ctx);
        });
    }

    /// Requests a listing.
    pub(super) fn refresh(&mut self, processes: bool, ctx: &mut Context<Self>) {
        if let Some(after) = self.listings.want(processes, self.remote.is_some()) {
            ctx.run_later(after, Self::list);
        }
    }

    /// Lists at once, because the runtime is there again, perhaps another one.
    pub(super) fn refresh_at_once(&mut self, ctx: &mut Context<Self>) {
        let processes = self.listings.restart();
        self.refresh(processes, ctx);
    }

    fn list(&mut self, ctx: &mut Context<Self>) {
        let Some(remote) = self.remote.clone() else { return self.listings.put_off() };
        let processes = self.listings.begin();
        let (limit, report) = (self.settings.timeout, Arc::clone(&self.report));
        let listing = async move { list(remote, limit, processes, &report).await };
        let done = move |look_at, this: &mut Self, ctx: &mut Context<Self>| {
            this.listed(look_at, processes, ctx);
        };
        ctx.spawn(listing.into_actor(self).map(done));
    }

    fn listed(
        &mut self,
        look_at: Result<Vec<Arc<str>>, Status>,
        processes: bool,
        ctx: &mut Context<Self>,
    ) {
        let success = look_at.is_ok();
        match look_at {
            Ok(look_at) => look_at.iter().for_each(|id| self.inspect(id, ctx)),
            Err(status) => tracing::debug!(%status, "{}: cannot list containers", R::NAME),
        }
        if let Some(processes) = self.listings.ended(success, processes) {
            self.refresh(processes, ctx);
        }
    }
}

/// Lists the containers, then, if wanted, the processes of each. Returns the containers to inspect.
async fn list<R: Remote>(
    remote: R,
    limit: Duration,
    processes: bool,
    report: &Reporter,
) -> Result<Vec<Arc<str>>, Status> {
    let Listed { containers, look_at } = in_time(limit * LIST_LIMIT, remote.list()).await?;
    let id = |c: &Container| c.id.to_string();
    let there = |status| matches!(status, State::Created | State::Running | State::Paused);
    let all = containers.iter().filter(|c| there(c.status)).map(id).collect();
    let run = |c: &&Container| there(c.status) && c.status != State::Created;
    let running: Vec<String> = containers.iter().filter(run).map(id).collect();
    for container in containers {
        report(Report::Container(Box::new(container)));
    }
    report(Report::Refreshed { running: all });
    if processes {
        let unread = report_cgroup_processes(running, report).await;
        for id in unread.into_iter().take(MAX_PROCESS_LISTS) {
            let pids = timeout(limit, remote.processes(&id)).await.unwrap_or_default();
            report_processes(&id, &pids, report);
        }
    }
    Ok(look_at)
}
