//! Inspecting single containers: each once at a time, few at once, each with a time limit, again while unknown.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use rustc_hash::FxHashMap;
use tokio::time::timeout;
use whalewatch_core::{Container, Runtime};

use super::{DockerActor, answers, pause};
use crate::request::News;

/// How many are asked for at once.
const AT_ONCE: usize = 8;
/// How many may want to be asked for; those beyond it are told by the next listing.
const MOST: usize = 4096;
/// How often the daemon may say that it knows no such container: one that is just being made is not there yet.
const DENIALS: u32 = 5;

/// What is to be inspected.
#[derive(Default)]
pub(super) struct Inspections {
    /// Tries that failed so far.
    wanted: FxHashMap<Arc<str>, u32>,
    queue: VecDeque<Arc<str>>,
    running: usize,
}

impl Inspections {
    /// Says whether it was not wanted already.
    fn want(&mut self, id: &Arc<str>) -> bool {
        if self.wanted.len() >= MOST || self.wanted.contains_key(id) {
            return false;
        }
        self.wanted.insert(Arc::clone(id), 0);
        self.queue.push_back(Arc::clone(id));
        true
    }

    /// All that were wanted; none is any more.
    pub(super) fn give_up(&mut self) -> Vec<Arc<str>> {
        self.queue.clear();
        self.wanted.drain().map(|(id, _)| id).collect()
    }

    pub(super) fn forget(&mut self, id: &str) {
        if self.wanted.remove(id).is_some() {
            self.queue.retain(|queued| &**queued != id);
        }
    }

    /// The next that may be asked for now.
    fn next(&mut self) -> Option<Arc<str>> {
        if self.running >= AT_ONCE {
            return None;
        }
        let id = self.queue.pop_front()?;
        self.running += 1;
        Some(id)
    }

    /// One more try of this has failed; `None` if it is no longer wanted.
    fn failed(&mut self, id: &str) -> Option<u32> {
        let failures = self.wanted.get_mut(id)?;
        *failures += 1;
        Some(*failures)
    }
}

enum Outcome {
    Told(Box<Container>),
    NotThere,
    Failed,
}

impl DockerActor {
    pub(super) fn inspect(&mut self, id: &Arc<str>, ctx: &mut Context<Self>) {
        if self.inspections.want(id) {
            self.pump(ctx);
        }
    }

    /// Asks for as many as may be asked for. The name comes from a list of one: the daemon answers an inspection only when
    /// it has done with starting the container, a list at once.
    pub(super) fn pump(&mut self, ctx: &mut Context<Self>) {
        let Some(docker) = self.docker.clone() else { return };
        while let Some(id) = self.inspections.next() {
            let ask = look_up(docker.clone(), self.runtime, self.settings.timeout, Arc::clone(&id));
            let done = |outcome, this: &mut Self, ctx: &mut Context<Self>| match outcome {
                Outcome::Told(container) if this.inspections.wanted.contains_key(&id) => {
                    (this.tell)(News::Container(container));
                    this.inspect_further(id, ctx);
                }
                other => this.inspected(id, other, ctx),
            };
            ctx.spawn(ask.into_actor(self).map(done));
        }
    }

    /// Its name is told; now the rest.
    fn inspect_further(&mut self, id: Arc<str>, ctx: &mut Context<Self>) {
        let Some(docker) = self.docker.clone() else {
            return self.inspected(id, Outcome::Failed, ctx);
        };
        let ask = inspect(docker, self.runtime, self.settings.timeout, Arc::clone(&id));
        let done = |outcome, this: &mut Self, ctx: &mut Context<Self>| {
            this.inspected(id, outcome, ctx);
        };
        ctx.spawn(ask.into_actor(self).map(done));
    }

    fn inspected(&mut self, id: Arc<str>, outcome: Outcome, ctx: &mut Context<Self>) {
        self.inspections.running -= 1;
        match outcome {
            Outcome::Told(container) => {
                if self.inspections.wanted.remove(&id).is_some() {
                    (self.tell)(News::Container(container));
                }
            }
            Outcome::NotThere => match self.inspections.failed(&id) {
                Some(denials) if denials >= DENIALS => {
                    self.inspections.wanted.remove(&id);
                    (self.tell)(News::NotKnown { id });
                }
                // One that is just being made is there within milliseconds.
                Some(denials) => again(id, Duration::from_millis(5 << (2 * denials)), ctx),
                None => {}
            },
            Outcome::Failed => {
                if let Some(failures) = self.inspections.failed(&id) {
                    again(id, pause(failures), ctx);
                }
            }
        }
        self.pump(ctx);
    }
}

async fn look_up(docker: Docker, runtime: Runtime, limit: Duration, id: Arc<str>) -> Outcome {
    let this = HashMap::from([("id", vec![&*id])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&this).build();
    let Ok(Ok(answer)) = timeout(limit, docker.list_containers(Some(options))).await else {
        return Outcome::Failed;
    };
    // The filter takes the beginning of an id as well.
    let found = answer.into_iter().filter_map(|c| answers::listed(c, runtime)).find(|c| c.id == id);
    found.map_or(Outcome::NotThere, |container| Outcome::Told(Box::new(container)))
}

async fn inspect(docker: Docker, runtime: Runtime, limit: Duration, id: Arc<str>) -> Outcome {
    let answer = docker.inspect_container(&id, None::<InspectContainerOptions>);
    match timeout(limit, answer).await {
        Ok(Ok(answer)) => answers::inspected(answer, runtime)
            .map_or(Outcome::Failed, |container| Outcome::Told(Box::new(container))),
        Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => Outcome::NotThere,
        Ok(Err(_)) | Err(_) => Outcome::Failed,
    }
}

/// Queues it once more after a pause, if it is still wanted then.
fn again(id: Arc<str>, after: Duration, ctx: &mut Context<DockerActor>) {
    ctx.run_later(after, move |this, ctx| {
        if this.inspections.wanted.contains_key(&id) {
            this.inspections.queue.push_back(id);
            this.pump(ctx);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_asked_for_once_and_few_at_once() {
        let mut inspections = Inspections::default();
        for i in 0..100 {
            assert!(inspections.want(&i.to_string().into()));
            assert!(!inspections.want(&i.to_string().into()));
        }
        let asked = std::iter::from_fn(|| inspections.next()).count();
        assert_eq!(asked, AT_ONCE);
        assert_eq!(inspections.queue.len(), 100 - AT_ONCE);
    }

    #[test]
    fn one_that_is_forgotten_is_not_asked_for() {
        let mut inspections = Inspections::default();
        inspections.want(&"a".into());
        inspections.forget("a");
        assert_eq!(inspections.next(), None);
        assert_eq!(inspections.failed("a"), None);
    }

    #[test]
    fn no_more_are_wanted_than_the_bound() {
        let mut inspections = Inspections::default();
        let wanted = (0..2 * MOST).filter(|i| inspections.want(&i.to_string().into())).count();
        assert_eq!((wanted, inspections.queue.len()), (MOST, MOST));
    }
}
