//! Asking for single containers and for all of them, each with a time limit.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use tokio::time::timeout;
use tonic::Status;
use whalewatch_core::{Container, Status as State};

use super::grpc::in_time;
use super::{Listed, Remote, RemoteActor};
use crate::request::News;
use crate::runtimes::inspections::DENIALS;
use crate::runtimes::processes::{tell_from_cgroups, tell_processes};
use crate::runtimes::{Tell, pause};

/// How often the runtime itself is asked for processes in one listing.
const MOST_PROCESS_LISTS: usize = 64;

/// How many times as long as one answer a listing may take: it consists of several.
const LONGEST_LIST: u32 = 16;

type Answer = Result<Option<Container>, Status>;

impl<R: Remote> RemoteActor<R> {
    pub(super) fn inspect(&mut self, id: &Arc<str>, ctx: &mut Context<Self>) {
        if self.inspections.want(id) {
            self.pump(ctx);
        }
    }

    /// Asks for as many as may be asked for.
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
                    (self.tell)(News::Container(Box::new(container)));
                }
            }
            Ok(None) => match self.inspections.failed(&id) {
                Some(denials) if denials >= DENIALS => {
                    self.inspections.settle(&id);
                    (self.tell)(News::NotKnown { id });
                }
                // One that is just being made is there within milliseconds.
                Some(denials) => Self::again(id, Duration::from_millis(5 << (2 * denials)), ctx),
                None => {}
            },
            Err(status) => {
                tracing::debug!(%id, %status, "a container could not be asked for");
                if let Some(failures) = self.inspections.failed(&id) {
                    Self::again(id, pause(failures), ctx);
                }
            }
        }
        self.pump(ctx);
    }

    /// Queues it once more after a pause, if it is still wanted then.
    fn again(id: Arc<str>, after: Duration, ctx: &mut Context<Self>) {
        ctx.run_later(after, move |this, ctx| {
            this.inspections.again(id);
            this.pump(ctx);
        });
    }

    /// A listing is wanted.
    pub(super) fn refresh(&mut self, processes: bool, ctx: &mut Context<Self>) {
        if let Some(after) = self.refresh.want(processes, self.remote.is_some()) {
            ctx.run_later(after, Self::list);
        }
    }

    /// The runtime is there, perhaps another than before: lists at once.
    pub(super) fn refresh_anew(&mut self, ctx: &mut Context<Self>) {
        let processes = self.refresh.anew();
        self.refresh(processes, ctx);
    }

    fn list(&mut self, ctx: &mut Context<Self>) {
        let Some(remote) = self.remote.clone() else { return self.refresh.put_off() };
        let processes = self.refresh.begin();
        let (limit, tell) = (self.settings.timeout, Arc::clone(&self.tell));
        let listing = async move { list(remote, limit, processes, &tell).await };
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
        let well = look_at.is_ok();
        match look_at {
            Ok(look_at) => look_at.iter().for_each(|id| self.inspect(id, ctx)),
            Err(status) => tracing::debug!(%status, "{}: containers could not be listed", R::NAME),
        }
        if let Some(processes) = self.refresh.ended(well, processes) {
            self.refresh(processes, ctx);
        }
    }
}

/// Lists the containers that run or are about to, then, if asked, the processes of each. Gives what
/// is worth an inspection.
async fn list<R: Remote>(
    remote: R,
    limit: Duration,
    processes: bool,
    tell: &Tell,
) -> Result<Vec<Arc<str>>, Status> {
    let Listed { containers, look_at } = in_time(limit * LONGEST_LIST, remote.list()).await?;
    let id = |c: &Container| c.id.to_string();
    let there = |status| matches!(status, State::Created | State::Running | State::Paused);
    let all = containers.iter().filter(|c| there(c.status)).map(id).collect();
    let run = |c: &&Container| there(c.status) && c.status != State::Created;
    let running: Vec<String> = containers.iter().filter(run).map(id).collect();
    for container in containers {
        tell(News::Container(Box::new(container)));
    }
    tell(News::Refreshed { running: all });
    if processes {
        let unread = tell_from_cgroups(running, tell).await;
        for id in unread.into_iter().take(MOST_PROCESS_LISTS) {
            let pids = timeout(limit, remote.processes(&id)).await.unwrap_or_default();
            tell_processes(&id, &pids, tell);
        }
    }
    Ok(look_at)
}
