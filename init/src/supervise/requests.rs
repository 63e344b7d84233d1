//! What the agent may ask, one arm for each request. Every request gets exactly one reply.

use ingot_init_api::{Name, Refusal, Reply, Request};

use super::exits::Watched;
use super::outbox::Pending;
use super::{AGENT_NAME, Action, Asked, Milliseconds, State};

impl<F> State<F> {
    pub(super) fn request(
        &mut self,
        now: Milliseconds,
        asked: Asked<F>,
        actions: &mut Vec<Action>,
    ) {
        let Asked { id, request, fd, alive_since } = asked;
        self.agent.heard(now, matches!(request, Request::Hello));
        let mut pending = Pending { id, reply: Reply::Done, fd: None, after_exits: false };
        pending.reply = match (request, fd) {
            (Request::StoreFd { name }, Some(fd)) => match self.store.put(name, fd) {
                true => Reply::Done,
                false => Reply::Refused(Refusal::Full),
            },
            (Request::StoreFd { .. }, None) | (_, Some(_)) => Reply::Refused(Refusal::WrongFd),
            (Request::GetFd { name }, None) => {
                pending.fd = self.store.get(&name).map(|_| name);
                pending.fd.map_or(Reply::Refused(Refusal::NotFound), |_| Reply::Fd)
            }
            (Request::ReplayExits, None) => {
                self.exits.forget_deliveries();
                pending.after_exits = true;
                Reply::Done
            }
            (request, None) => self.plain_request(now, request, alive_since, actions),
        };
        self.outbox.pending = Some(pending);
    }

    /// Requests without descriptors and with nothing special about their reply.
    fn plain_request(
        &mut self,
        now: Milliseconds,
        request: Request,
        alive_since: Option<u64>,
        actions: &mut Vec<Action>,
    ) -> Reply {
        match request {
            Request::Hello => {
                self.exits.forget_deliveries();
                actions.push(Action::CheckWatched);
                let started_at_ns = self.started_at.saturating_mul(1_000_000);
                Reply::Hello { restarts: self.agent.restarts(), started_at_ns }
            }
            Request::DropFd { name } => {
                self.store.drop_named(&name);
                Reply::Done
            }
            Request::NameAt { index } => self
                .store
                .name_at(index)
                .map_or(Reply::Refused(Refusal::NotFound), |name| Reply::StoredName { name }),
            Request::Watch { pid, start_time } => {
                match self.exits.watch(pid, start_time, alive_since) {
                    Watched::Done => Reply::Done,
                    Watched::Full => Reply::Refused(Refusal::Full),
                    Watched::NotFound => Reply::Refused(Refusal::NotFound),
                }
            }
            Request::AcknowledgeExit { pid, start_time } => {
                self.exits.acknowledge(pid, start_time);
                Reply::Done
            }
            Request::ServiceAt { index: 0 } => {
                self.agent.service().map_or(Reply::Refused(Refusal::NotFound), Reply::Service)
            }
            Request::ServiceAt { .. } => Reply::Refused(Refusal::NotFound),
            Request::ReadyToEnd => {
                self.ready_to_end(now, actions);
                Reply::Done
            }
            _ if self.ending.is_some() => Reply::Refused(Refusal::NotAllowed),
            Request::EndMachine { how, grace_ms } => {
                self.begin_ending(now, how, grace_ms.into(), actions);
                Reply::Done
            }
            Request::StartService { name } if is_agent(&name) => {
                self.agent.start_now(now);
                Reply::Done
            }
            Request::StopService { name } if is_agent(&name) => Reply::Refused(Refusal::NotAllowed),
            Request::RestartService { name, kill } if is_agent(&name) => {
                self.agent.restart(now, kill, actions);
                Reply::Done
            }
            Request::StartService { .. }
            | Request::StopService { .. }
            | Request::RestartService { .. } => Reply::Refused(Refusal::NotFound),
            // Taken care of by the caller.
            Request::StoreFd { .. } | Request::GetFd { .. } | Request::ReplayExits => {
                Reply::Refused(Refusal::Malformed)
            }
        }
    }
}

fn is_agent(name: &Name) -> bool {
    name.as_str() == AGENT_NAME
}
